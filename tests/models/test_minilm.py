"""BERT on real weights: all-MiniLM-L6-v2 against ``transformers``, layer by layer."""

import pytest
import torch
import transformers
from tiny_hf import assert_close, assert_gradients_close, assert_same_weights

import minift
from minift import assets
from minift.layers.attention import use_backend

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Yes.",
    "Please send the invoice for order 4711 to Maria Sánchez, 12 Harbour Street, Dublin, before "
    "the end of March, and copy her accountant.",
    "Attention computes a weighted mean of values; the weights come from queries and keys.",
]


@pytest.fixture(scope="module")
def folder():
    return assets.fetch("minilm", progress=False)


@pytest.fixture(scope="module")
def batch(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer(SENTENCES, padding=True, return_tensors="pt")


def hf(folder, **options):
    options = {"dtype": torch.float32, **options}
    return transformers.AutoModel.from_pretrained(folder, **options).eval()


def run(model, batch):
    with torch.no_grad():
        return model(**batch, output_hidden_states=True)


def largest(ours, theirs, mask):
    """max |difference| of each layer over the real tokens."""
    pairs = zip(ours.hidden_states, theirs.hidden_states, strict=True)
    return [float((mine - other)[mask != 0].abs().max()) for mine, other in pairs]


@pytest.fixture(scope="module")
def reference(folder, batch):
    return {
        "sdpa": run(hf(folder), batch),
        "eager": run(hf(folder, attn_implementation="eager"), batch),
        "fp64": run(hf(folder, dtype=torch.float64), batch),
    }


def test_every_layer_within_the_noise_floor(folder, batch, reference):
    """Ours against each implementation of theirs, beside what those two differ by (≈ 4e-6)."""
    ours, mask = minift.load(folder), batch["attention_mask"]
    assert 0 in mask, "a padded batch is meant"
    floor = largest(reference["eager"], reference["sdpa"], mask)
    assert len(floor) == 7
    assert 1e-7 < max(floor) < 2e-5
    for backend, impl in (("torch", "sdpa"), ("eager", "eager"), ("eager", "sdpa")):
        with use_backend(backend):
            mine = run(ours, batch)
        differences = largest(mine, reference[impl], mask)
        # measured: exactly 0.0 in each layer against the same implementation
        for difference, noise in zip(differences, floor, strict=True):
            assert difference <= (noise if impl != backend.replace("torch", "sdpa") else 1e-6)
        pooled = float((mine.pooler_output - reference[impl].pooler_output).abs().max())
        assert pooled <= 2e-6


def test_as_near_to_the_exact_values_as_theirs(folder, batch, reference):
    mask, exact = batch["attention_mask"], reference["fp64"]
    ours = run(minift.load(folder), batch)
    theirs = largest(reference["sdpa"], exact, mask)
    assert 1e-7 < max(theirs) < 2e-5
    for mine, other in zip(largest(ours, exact, mask), theirs, strict=True):
        assert mine <= 1.5 * other + 1e-7
    double = run(minift.load(folder, dtype=torch.float64), batch)
    assert max(largest(double, exact, mask)) < 1e-13


def test_padding_does_not_matter(folder, batch):
    ours, mask = minift.load(folder), batch["attention_mask"]
    together = run(ours, batch).last_hidden_state
    for row, length in enumerate(mask.sum(1)):
        alone = run(ours, {"input_ids": batch["input_ids"][row : row + 1, :length]})
        # measured: 3e-6; other sizes take other ways through the matrix products
        assert float((together[row, :length] - alone.last_hidden_state[0]).abs().max()) < 1e-5


def test_a_training_step_is_the_same(folder, batch):
    names = [f"T{i}" for i in range(7)]
    torch.manual_seed(0)
    ours = minift.load(folder, task="token-classification", id2label=names).train()
    torch.manual_seed(0)
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(
        folder, num_labels=7, dtype=torch.float32
    ).train()
    labels = (batch["input_ids"] % 7).masked_fill(batch["attention_mask"] == 0, -100)
    losses = []
    for model in (ours, theirs):
        torch.manual_seed(1)  # dropout is on
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        for _ in range(2):
            loss = model(**batch, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
    assert abs(losses[0] - losses[1]) <= 1e-6  # measured: 0.0
    hidden = [m.bert.embeddings for m in (ours, theirs)]
    difference = hidden[0].word.weight - hidden[1].word_embeddings.weight
    assert float(difference.detach().abs().max()) <= 1e-6  # measured: 0.0


def test_saved_and_loaded_by_transformers(folder, batch, tmp_path):
    ours = minift.load("minilm")
    minift.save(ours, tmp_path / "copy")
    again, info = transformers.AutoModel.from_pretrained(
        tmp_path / "copy", output_loading_info=True
    )
    assert not any(info.values()), info
    assert torch.equal(run(again, batch).last_hidden_state, run(ours, batch).last_hidden_state)


@pytest.mark.parametrize("name", ["BertForPreTraining", "BertForMaskedLM"])
def test_pretraining_heads_around_the_real_encoder(folder, batch, name):
    """New heads drawn as theirs are, then the same logits, loss and gradients."""
    task = {"BertForPreTraining": "pretraining", "BertForMaskedLM": "masked-lm"}[name]
    torch.manual_seed(0)
    ours = minift.load(folder, task=task)
    torch.manual_seed(0)
    theirs = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32)
    assert_same_weights(ours, theirs)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    labels = {"labels": ids.masked_fill((ids % 3 != 0) | (mask == 0), -100)}
    if task == "pretraining":
        labels["next_sentence_label"] = torch.tensor([0, 1, 1, 0])
    mine, wanted = (model(**batch, **labels) for model in (ours, theirs))
    their_logits = wanted["prediction_logits" if task == "pretraining" else "logits"]
    assert_close(mine.logits[mask != 0], their_logits[mask != 0], "logits")  # measured: 0.0
    assert_close(mine.loss, wanted.loss, "loss")
    mine.loss.backward()
    wanted.loss.backward()
    assert_gradients_close(ours, theirs)
