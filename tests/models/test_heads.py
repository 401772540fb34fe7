"""Heads of BERT and GPT-2: pretraining, masked words, next sentence, labels for whole texts."""

import pytest
import torch
import transformers
from tiny_hf import (
    BERT_HEADS,
    GPT2_HEADS,
    assert_close,
    assert_gradients_close,
    assert_same_weights,
    head_labels,
    hf_bert,
    hf_gpt2,
    positions,
    ragged,
)

import minift
from minift.compare import compare
from minift.errors import InputError
from minift.layers.attention import use_backend
from minift.models.bert import BertConfig
from minift.models.bert_heads import FAMILY
from minift.models.gpt2 import GPT2Config

LENGTHS = ([9, 4, 17], [5], [3, 3, 3, 3], [32, 1])
IMPLEMENTATIONS = [("sdpa", "torch"), ("eager", "eager")]
ALL = [("bert", name) for name in BERT_HEADS] + [("gpt2", name) for name in GPT2_HEADS]
TEXTS = [case for case in ALL if case[1].startswith("texts")]


def hf_head(family, name, **options):
    """A model of ``transformers`` with this head; ``options`` as ``hf_bert``'s."""
    cls, needs = (BERT_HEADS if family == "bert" else GPT2_HEADS)[name]
    options = {**needs, **options}
    if family == "bert":
        return hf_bert(options.pop("config", "plain"), cls, **options)
    return hf_gpt2(options.pop("config", "plain"), cls, **options)


def inputs_for(model, name, lengths, side, seed=0):
    """Ids, mask, token types (BERT) or positions (GPT-2: theirs only), and labels."""
    ids, mask = ragged(lengths, side, seed=seed)
    if model.config.model_type == "gpt2":
        ids = ids.where(mask != 0, 0).clamp(min=0)
        ids[mask != 0] = ids[mask != 0].clamp(min=1)  # 0 is padding
        own, more = {}, {"position_ids": positions(mask)}
    else:
        own = {"token_type_ids": (ids + torch.arange(ids.shape[1])) % 2}
        more = {}
    own |= {"input_ids": ids, "attention_mask": mask, **head_labels(name, ids, mask, seed)}
    return own, {**own, **more}


def logits_of(output):
    """All logits of an output, ours or theirs."""
    names = ("prediction_logits", "logits", "seq_relationship_logits")
    found = [getattr(output, name, None) for name in names]
    return [x for x in found if x is not None]


def real(logits, mask):
    """Logits of a token without those of padding; others as they are."""
    return logits[mask != 0] if logits.dim() == 3 else logits


@pytest.mark.parametrize(("family", "name"), ALL)
@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_loss_and_every_gradient(family, name, impl, backend, side):
    theirs = hf_head(family, name, impl=impl)
    ours = minift.from_hf(theirs)
    for seed, lengths in enumerate(LENGTHS):
        own, more = inputs_for(theirs, name, lengths, side, seed)
        with use_backend(backend):
            mine = ours(**own)
        wanted = theirs(**more)
        assert len(logits_of(mine)) == len(logits_of(wanted)) == 1 + name.startswith("pretraining")
        for x, y in zip(logits_of(mine), logits_of(wanted), strict=True):
            assert_close(real(x, own["attention_mask"]), real(y, own["attention_mask"]), "logits")
        assert_close(mine.loss, wanted.loss, "loss")
        for model, output in ((ours, mine), (theirs, wanted)):
            model.zero_grad()
            output.loss.backward()
        assert_gradients_close(ours, theirs)


@pytest.mark.parametrize(("family", "name"), ALL)
def test_the_comparison_of_minift_takes_them(family, name):
    theirs = hf_head(family, name)
    ours = minift.from_hf(theirs)
    own, _ = inputs_for(theirs, name, [9, 4, 17], "left")
    report = compare(ours, theirs, own["input_ids"], own["attention_mask"])
    assert report.ok, report.table()
    names = [row.name for row in report.rows]
    assert names[-2:] == ["pair logits" if name.startswith("pre") else "logits", "gradients"]


@pytest.mark.parametrize("config", ["odd-sizes", "silu-pad-3", "tanh-wide"])
@pytest.mark.parametrize("name", ["pretraining", "texts"])
def test_other_sizes_and_options(config, name):
    theirs = hf_head("bert", name, config=config)
    ours = minift.from_hf(theirs)
    own, _ = inputs_for(theirs, name, [9, 4, 17], "right")
    mine, wanted = ours(**own), theirs(**own)
    assert_close(mine.loss, wanted.loss, "loss")
    mine.loss.backward()
    wanted.loss.backward()
    assert_gradients_close(ours, theirs)


@pytest.mark.parametrize(
    ("family", "name"),
    [("bert", "pretraining"), ("bert", "masked-lm-untied"), ("bert", "texts"), ("gpt2", "texts")],
)
@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
def test_ten_steps_with_dropout_from_the_same_seed(family, name, impl, backend):
    options = {"dropout": 0.1, "classifier_dropout": 0.3} if family == "bert" else {"dropout": 0.1}
    theirs = hf_head(family, name, impl=impl, **options).train()
    ours = minift.from_hf(theirs)

    def trained(model, backend, which):
        torch.manual_seed(1)
        # eps as in test_gpt2: the gradient of a key's bias is 0 but for rounding
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4, weight_decay=0.1)
        losses = []
        for step in range(10):
            inputs = inputs_for(theirs, name, [11, 11, 11], "right", seed=step)[which]
            with use_backend(backend):
                loss = model(**inputs).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    assert_close(trained(ours, backend, 0), trained(theirs, None, 1), "losses")
    assert_same_weights(ours, theirs, tolerance=2e-6)


@pytest.mark.parametrize(("family", "name"), ALL)
def test_there_and_back(family, name, tmp_path):
    original = hf_head(family, name)
    cls = type(original).__name__
    original.save_pretrained(tmp_path / "theirs")
    ours = minift.load(tmp_path / "theirs")
    assert type(ours).__name__ == cls
    assert_same_weights(ours, original)
    assert_same_weights(ours, minift.to_hf(ours))
    minift.save(ours, tmp_path / "ours")
    files = [(tmp_path / which / "config.json").read_text() for which in ("ours", "theirs")]
    assert [f'"{cls}"' in text for text in files] == [True, True]
    again, info = getattr(transformers, cls).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(info.values()), info
    assert again.config.to_diff_dict() == original.config.to_diff_dict()
    own, more = inputs_for(original, name, [7, 12, 1], "right")
    for x, y in zip(logits_of(again(**more)), logits_of(original(**more)), strict=True):
        assert_close(real(x, own["attention_mask"]), real(y, own["attention_mask"]), "logits")
    assert_same_weights(minift.load(tmp_path / "ours"), original)


def test_tied_names_on_disk(tmp_path):
    """A tied decoder is not in the file; a file that has it all the same is read, once right."""
    from safetensors.torch import load_file, save_file

    for name, held in (("masked-lm", ["bias"]), ("masked-lm-untied", ["bias", "decoder"])):
        minift.save(minift.from_hf(hf_head("bert", name)), tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
        found = {key.split(".")[2] for key in tensors if key.startswith("cls.predictions.")}
        assert sorted(found) == sorted([*held, "transform"])
    original = hf_head("bert", "masked-lm")
    original.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    decoder = "cls.predictions.decoder"
    tensors[f"{decoder}.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    tensors[f"{decoder}.bias"] = tensors["cls.predictions.bias"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same_weights(minift.load(tmp_path), original)
    assert_same_weights(minift.load(tmp_path, task="masked-lm"), original)
    for leaf in ("weight", "bias"):
        wrong = {**tensors, f"{decoder}.{leaf}": tensors[f"{decoder}.{leaf}"] + 1}
        save_file(wrong, tmp_path / "model.safetensors")
        with pytest.raises(InputError, match=rf"{decoder}\.{leaf} differs from"):
            minift.load(tmp_path)


def test_a_whole_pretraining_under_the_name_of_masked_lm(tmp_path):
    """bert-base-uncased's file has both heads and a pooler, and its config says BertForMaskedLM."""
    original = hf_head("bert", "pretraining")
    original.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace("BertForPreTraining", "BertForMaskedLM"))
    ours = minift.load(tmp_path)
    assert type(ours).__name__ == "BertForMaskedLM"
    whole = minift.load(tmp_path, task="pretraining")
    assert_same_weights(whole, original)
    ids, mask = ragged([7, 12, 1])
    assert torch.equal(ours(ids, mask).logits, whole(ids, mask).logits)


TASKS = {cls.__name__: task for task, cls in FAMILY.tasks.items()}
MADE_NEW = "BertForTokenClassification", "BertForSequenceClassification"


@pytest.mark.parametrize("source", TASKS)
def test_another_task_keeps_what_it_can_and_draws_the_rest(source, tmp_path):
    """As ``from_pretrained`` does, but that a classifier for texts is none for tokens."""
    config = hf_bert().config
    getattr(transformers, source)(config).save_pretrained(tmp_path)
    for cls, task in TASKS.items():
        torch.manual_seed(5)
        theirs = getattr(transformers, cls).from_pretrained(tmp_path, num_labels=5)
        after = torch.get_rng_state()
        torch.manual_seed(5)
        labels = list("ABCDE") if hasattr(FAMILY.tasks[task], "has_labels") else None
        ours = minift.load(tmp_path, task=task, id2label=labels)
        if cls == "BertModel" and ours.pooler is None:
            assert source in ("BertForMaskedLM", "BertForTokenClassification")
        elif {source, cls} != set(MADE_NEW):
            assert_same_weights(ours, theirs)
            assert torch.equal(torch.get_rng_state(), after), (source, cls)
        else:
            assert not torch.equal(ours.classifier.weight, theirs.classifier.weight)


@pytest.mark.parametrize("name", [name for name in BERT_HEADS if name != "texts-one-number"])
def test_random_start_is_that_of_transformers(name):
    config = hf_head("bert", name).config
    cls = BERT_HEADS[name][0]
    torch.manual_seed(3)
    theirs = getattr(transformers, cls)(config)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    ours = FAMILY.classes[cls](BertConfig.from_dict(config.to_dict()))
    assert_same_weights(ours, theirs)
    assert torch.equal(torch.get_rng_state(), after)


def test_gpt2_heads_from_each_other(tmp_path):
    original = hf_gpt2(tie_word_embeddings=False, pad_token_id=0)
    original.save_pretrained(tmp_path)
    torch.manual_seed(5)
    theirs = transformers.GPT2ForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    torch.manual_seed(5)
    ours = minift.load(tmp_path, task="sequence-classification", id2label=list("abc"))
    assert_same_weights(ours, theirs)
    hf_head("bert", "masked-lm-untied").save_pretrained(tmp_path / "bert")
    assert type(minift.load(tmp_path / "bert", task="encoder")).__name__ == "BertModel"
    body = minift.load(tmp_path, task="decoder")
    assert_same_weights(body, original.transformer)
    minift.save(body, tmp_path / "body")
    again, info = transformers.GPT2Model.from_pretrained(
        tmp_path / "body", output_loading_info=True
    )
    assert not any(info.values()), info
    ids = ragged([7, 7])[0]
    assert_close(body(ids).last_hidden_state, again(ids).last_hidden_state, "body")
    assert body(ids).cache is None


def test_gpt2_reads_the_last_token_that_is_not_padding():
    theirs = hf_head("gpt2", "texts")
    ours = minift.from_hf(theirs)
    for row in ([5, 0, 6, 0, 0], [0, 0, 3, 4, 5], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]):
        ids = torch.tensor([row])
        assert_close(ours(ids).logits, theirs(ids).logits, str(row))
    alone = hf_gpt2("plain", "GPT2ForSequenceClassification")
    ids = ragged([7])[0]
    assert_close(minift.from_hf(alone)(ids).logits, alone(ids).logits, "no padding token")


def test_wrong_inputs_are_named():
    ids, mask = ragged([7, 12, 1])
    both = minift.from_hf(hf_head("bert", "pretraining"))
    single, multi = (minift.from_hf(hf_head("bert", f"texts-{n}")) for n in ("single", "multi"))
    follows = minift.from_hf(hf_head("bert", "next-sentence"))
    number = minift.from_hf(hf_head("bert", "texts-one-number"))
    gpt2 = minift.from_hf(hf_gpt2())
    pair, wide = torch.tensor([0, 1, 0]), torch.zeros(3, 5)
    unpadded = minift.from_hf(hf_gpt2("plain", "GPT2ForSequenceClassification"))
    one = "labels: shape (3, 5); right: (3,)"
    wrong = [
        (both, {"labels": ids}, "next_sentence_label: None together with labels; right: both, "
         "or neither"),
        (both, {"next_sentence_label": pair}, "labels: None together with next_sentence_label; "
         "right: both, or neither"),
        (both, {"labels": ids, "next_sentence_label": pair + 1}, "labels: 2 is outside 0…1; "
         "right: a class, or −100 to ignore"),
        (follows, {"labels": pair + 1}, "labels: 2 is outside 0…1; right: a class, or −100 to "
         "ignore"),
        (single, {"labels": wide.long()}, one),
        (single, {"labels": pair.float()}, "labels: dtype torch.float32; right: torch.int64"),
        (multi, {"labels": wide.long()}, "labels: dtype torch.int64; right for "
         "multi_label_classification: torch.float32"),
        (multi, {"labels": wide[:, 1:]}, "labels: shape (3, 4); right for "
         "multi_label_classification: (3, 5)"),
        (number, {"labels": wide}, "labels: shape (3, 5); right for regression: (3, 1)"),
        (gpt2, {"token_type_ids": ids}, "token_type_ids: this model has no table of them; "
         "right: None"),
        (unpadded, {}, "pad_token_id: None in the config, and 3 texts in the batch; right: the id "
         "that fills short texts, or one text at a time"),
    ]  # fmt: skip
    for model, change, message in wrong:
        with pytest.raises(InputError) as caught:
            model(ids, mask, **change)
        assert str(caught.value) == message


@pytest.mark.parametrize("config", [BertConfig, GPT2Config])
def test_an_unknown_problem_type(config):
    with pytest.raises(InputError, match=r"problem_type: unknown 'regresion'; .*'regression'\?"):
        config(problem_type="regresion")


def test_a_new_bias_leaves_the_rest_of_its_head_alone(tmp_path):
    from safetensors.torch import load_file, save_file

    original = hf_head("bert", "pretraining")
    original.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["cls.predictions.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    ours = minift.load(tmp_path, task="masked-lm")
    assert not ours.predictions.bias.any()
    wanted = original.cls.predictions.transform
    assert torch.equal(ours.predictions.transform.weight, wanted.dense.weight)
    assert torch.equal(ours.predictions.norm.weight, wanted.LayerNorm.weight)
