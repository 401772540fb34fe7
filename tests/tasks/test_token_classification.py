"""Alignment against Hugging Face's word ids; training against BertForTokenClassification."""

import copy
import json

import pytest
import torch
import transformers

import minift
from minift import assets
from minift.data import pii
from minift.data.conll import Sentence
from minift.errors import InputError
from minift.tasks import task
from minift.tasks.tagger import Tagger, new_tagger
from minift.tasks.token_classification import align, batches_of, collate, encode, label_names
from minift.training import TrainConfig, train


@pytest.fixture(scope="module")
def data():
    splits = pii.load_splits(1, per_type=4, test_fillings=1)
    return splits, minift.load_tokenizer("minilm"), label_names(splits.train)


def test_labels_equal_the_recipe_with_hugging_face_word_ids(data):
    splits, tokenizer, labels = data
    hf = transformers.AutoTokenizer.from_pretrained(assets.fetch("minilm"))
    odd = Sentence(("\u200d", "unaffable-ness", "日本", "a"), ("O", "B-AGE", "B-IP", "I-IP"))
    sentences = [*splits.train[:150], odd]
    for sentence, ours in zip(sentences, encode(sentences, tokenizer, labels, 512), strict=True):
        theirs = hf(list(sentence.words), is_split_into_words=True)
        words = theirs.word_ids()
        expected, seen = [], set()
        for word in words:
            new = word is not None and word not in seen
            expected.append(labels.index(sentence.tags[word]) if new else -100)
            seen.add(word)
        assert ours.input_ids == theirs["input_ids"]
        assert ours.labels == expected
        for word, place in enumerate(ours.first_piece):
            assert place == (words.index(word) if word in words else None)


def test_align():
    assert align([5, 7], [None, 0, 0, 1, 1, 1, None]) == [-100, 5, -100, 7, -100, -100, -100]
    assert align([5, 7, 9], [None, 0, 2, None]) == [-100, 5, 9, -100]


def test_collate_pads_on_the_right(data):
    splits, tokenizer, labels = data
    examples = encode(splits.train[:5], tokenizer, labels, 512)
    batch = collate(examples, 0)
    width = max(len(e.input_ids) for e in examples)
    assert {tuple(t.shape) for t in batch.values()} == {(5, width)}
    for row, example in enumerate(examples):
        n = len(example.input_ids)
        assert batch["attention_mask"][row].sum() == n
        assert batch["labels"][row, :n].tolist() == example.labels
        assert (batch["labels"][row, n:] == -100).all()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_training_equals_hugging_face_step_by_step(data, tiny_encoder, dropout):
    """Same head, same batches, same seed: the loss curves and the final tags coincide."""
    splits, tokenizer, labels = data
    config = TrainConfig(epochs=2, batch_size=16, learning_rate=3e-3, dropout=dropout, seed=3)
    ours = Tagger.from_encoder(tiny_encoder, labels, seed=3).model
    torch.manual_seed(3)
    theirs = transformers.BertForTokenClassification.from_pretrained(
        tiny_encoder, num_labels=len(labels)
    )
    examples = encode(splits.train, tokenizer, labels, 128)
    from minift.training.dropout import set_dropout

    curves = []
    for model in (ours, theirs):
        set_dropout(model, dropout)
        curves.append(train(model, batches_of(examples, config, 0), config))
    # The head starts with the same numbers and every operation is the same one in the same order.
    # Measured: 0.0. Two orders of summation differ by 4e-6 after 30 such steps.
    gap = max(abs(a - b) for a, b in zip(curves[0].losses, curves[1].losses, strict=True))
    assert gap <= 1e-6
    assert curves[0].losses[-1] < 0.8 * curves[0].losses[0]
    batch = collate(encode(splits.test, tokenizer, labels, 128), 0)
    del batch["labels"]
    with torch.inference_mode():
        difference = ours(**batch).logits - theirs(**batch).logits
    assert difference[batch["attention_mask"].bool()].abs().max() <= 1e-5


def test_save_and_load_in_both_libraries(data, tiny_encoder, tmp_path):
    splits, _, labels = data
    tagger = new_tagger(tiny_encoder, splits.train, seed=1)
    config = TrainConfig(epochs=1, learning_rate=1e-2, dropout=0.0)
    tagger.fit(splits.train, splits.valid[:10], config)
    tagger.save(tmp_path / "out", {"f1": 0.5})
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == {"f1": 0.5}
    again = Tagger.load(tmp_path / "out")
    assert again.labels == tagger.labels == labels
    sentences = splits.test[:20]
    assert again.tag(sentences) == tagger.tag(sentences)
    model = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "out")
    hf_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert [model.config.id2label[i] for i in range(len(labels))] == labels
    for sentence, tags in zip(sentences, again.tag(sentences), strict=True):
        encoded = hf_tokenizer(list(sentence.words), is_split_into_words=True, return_tensors="pt")
        best = model(**encoded).logits[0].argmax(-1).tolist()
        words = encoded.word_ids()
        theirs = [model.config.id2label[best[words.index(w)]] for w in range(len(tags))]
        assert tags == theirs


def test_fit_is_reproducible_to_the_bit(data, tiny_encoder):
    splits = data[0]

    def run():
        tagger = new_tagger(tiny_encoder, splits.train, seed=4)
        config = TrainConfig(epochs=1, learning_rate=1e-2, seed=4)
        history = tagger.fit(splits.train, splits.valid, config)
        return history, copy.deepcopy(tagger.model.state_dict())

    (one, weights), (two, again) = run(), run()
    assert one == two
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_entities_of_raw_text_have_the_right_characters(data, tiny_encoder):
    tagger = new_tagger(tiny_encoder, data[0].train, seed=0)
    text = "  Anna's card 1234-5678\n is \u200d lost. "
    for entity in tagger.entities(text):
        assert text[entity["start"] : entity["end"]] == entity["text"]
        assert entity["text"].strip() == entity["text"] != ""
    assert tagger.entities("") == tagger.entities(" \n") == []
    order = data[0].test[:30]
    together = tagger.tag(order)
    assert together == [tagger.tag([s])[0] for s in order]  # batching and sorting change nothing


def test_a_sentence_longer_than_the_model(data, tiny_encoder):
    tagger = new_tagger(tiny_encoder, data[0].train, seed=0)
    ok = Sentence(("a",) * 126, ("O",) * 126, 3)
    assert len(tagger.tag([ok])[0]) == 126
    long = Sentence(("a",) * 127, ("O",) * 127, 9)
    with pytest.raises(InputError) as error:
        tagger.evaluate([ok, long], "my.conll")
    assert str(error.value) == (
        "my.conll, line 9: the sentence has 127 word pieces, but the model takes 126 besides "
        "[CLS] and [SEP]; right would be shorter sentences"
    )


def test_wrong_input(data, tiny_encoder):
    _, tokenizer, labels = data
    with pytest.raises(InputError, match="tag 'B-DOG' is unknown; known: O, B-ADDRESS"):
        encode([Sentence(("a",), ("B-DOG",))], tokenizer, labels, 512)
    with pytest.raises(InputError, match="no word is tagged as an entity"):
        new_tagger(tiny_encoder, [Sentence(("a",), ("O",))], seed=0)
    with pytest.raises(InputError, match="holds a BertModel; right would be"):
        Tagger.load(tiny_encoder)
    with pytest.raises(InputError, match=r"task: unknown 'nerr'.*did you mean 'ner'"):
        task("nerr")
