"""The comparison itself: it passes equal models and finds the first quantity that differs."""

import json

import pytest
import torch
import transformers

import minift
from minift.__main__ import main
from minift.compare import Report, Row, compare, tolerance

SIZES = {"vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}


def hf_model(cls):
    torch.manual_seed(0)
    if cls == "GPT2LMHeadModel":
        sizes = {"vocab_size": 53, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 40}
        config = transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=1)
    else:
        config = transformers.BertConfig(**SIZES, intermediate_size=40, num_labels=5)
    model = getattr(transformers, cls)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model


def batch(side="right"):
    ids = torch.randint(0, 53, (3, 11), generator=torch.Generator().manual_seed(0))
    counts, places = torch.tensor([11, 4, 7])[:, None], torch.arange(11)[None]
    return ids, (places < counts if side == "right" else places >= 11 - counts).long()


CASES = [
    ("BertModel", False),  # an encoder has no loss
    ("BertForTokenClassification", False),
    ("BertForTokenClassification", True),
    ("GPT2LMHeadModel", False),
    ("GPT2LMHeadModel", True),
]


@pytest.mark.parametrize(("cls", "with_labels"), CASES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_equal_models(cls, with_labels, side):
    theirs = hf_model(cls)
    ours = minift.from_hf(theirs).train()
    ids, mask = batch(side)
    labels = (ids % 5).masked_fill(mask == 0, -100) if with_labels else None
    before = theirs.config._attn_implementation
    report = compare(ours, theirs, ids, mask, labels=labels)
    names = ["embeddings", "layer 1", "layer 2", "layer 3"]
    names += ["pooled"] if cls == "BertModel" else ["logits"]
    names += ["loss"] if with_labels else []
    assert [row.name for row in report.rows] == [*names, "gradients"]
    assert report.ok
    assert report.first_difference is None
    for row in report.rows:
        assert row.difference <= 1e-6 * row.size + 2e-6  # measured: 0.0
        factor = 2 if row.name == "gradients" else 1
        assert row.tolerance <= factor * (2 * row.floor + 1e-6 * row.size + 2e-6)
        assert row.size > 0.1 or row.name in ("gradients", "loss")
    assert any(row.floor > 0 for row in report.rows)  # it was measured
    # nothing is left changed
    assert ours.training
    assert not theirs.training
    assert theirs.config._attn_implementation == before
    assert all(p.grad is None for p in [*ours.parameters(), *theirs.parameters()])
    without = compare(ours, theirs, ids, mask, labels=labels, gradients=False)
    assert without.rows == report.rows[:-1]


def scaled(module, factor=1 + 1e-4):
    with torch.no_grad():
        module.weight *= factor


WRONG = {
    "embeddings": lambda m: scaled(m.bert.embeddings.word),
    "layer 1": lambda m: scaled(m.bert.layers[0].attention.value),
    "layer 2": lambda m: scaled(m.bert.layers[1].feed_forward.up),
    "layer 3": lambda m: scaled(m.bert.layers[2].norm),
    "logits": lambda m: scaled(m.classifier),
}


@pytest.mark.parametrize("where", WRONG)
def test_the_first_difference_is_named(where):
    theirs = hf_model("BertForTokenClassification")
    ours = minift.from_hf(theirs)
    WRONG[where](ours)
    report = compare(ours, theirs, *batch())
    assert not report.ok
    assert report.first_difference == where
    assert f"{where:<16}" in report.table()
    assert report.table().count("DIFFERS") >= 1
    names = [row.name for row in report.rows]
    assert all(row.ok for row in report.rows[: names.index(where)])


def test_only_a_gradient_differs():
    theirs = hf_model("BertForTokenClassification")
    ours = minift.from_hf(theirs)
    ours.bert.layers[1].attention.key.weight.register_hook(lambda gradient: gradient * 1.01)
    report = compare(ours, theirs, *batch())
    assert report.first_difference == "gradients"
    assert report.rows[-1].tensor == "bert.encoder.layer.1.attention.self.key.weight"
    assert report.rows[-1].tensor in report.table()


def test_nan_is_a_difference():
    theirs = hf_model("BertForTokenClassification")
    ours = minift.from_hf(theirs)
    with torch.no_grad():
        ours.classifier.bias[1] = float("nan")
    report = compare(ours, theirs, *batch())
    assert report.first_difference == "logits"
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    row = next(row for row in data["rows"] if row["name"] == "logits")
    assert row["difference"] is None
    assert not row["ok"]


def test_padding_is_left_out():
    theirs = hf_model("BertModel")
    ours = minift.from_hf(theirs)
    ids, mask = batch()
    original = ours.embeddings.forward

    def with_noise_on_padding(input_ids, token_type_ids):
        return original(input_ids, token_type_ids) + (1 - mask)[..., None] * 3.0

    ours.embeddings.forward = with_noise_on_padding
    assert compare(ours, theirs, ids, mask, gradients=False).ok
    assert not compare(ours, theirs, ids, torch.ones_like(mask), gradients=False).ok


def test_the_rule():
    assert tolerance(0.0, 5.0) == pytest.approx(7e-6)
    assert tolerance(1e-5, 5.0) == pytest.approx(2e-5)
    assert tolerance(0.0, 5.0, epsilon=2.0) == pytest.approx(14e-6)
    assert not Report([]).ok
    assert Row("x", 1e-6, 0.0, 2e-6, 1.0).ok
    assert not Row("x", 3e-6, 0.0, 2e-6, 1.0).ok


def test_in_bfloat16():
    theirs = hf_model("BertModel").to(torch.bfloat16)
    report = compare(minift.from_hf(theirs), theirs, *batch())
    assert report.ok
    assert 1e-2 < report.rows[0].tolerance < 1.0


def test_command(tmp_path, capsys):
    ours = minift.from_hf(hf_model("BertForTokenClassification"))
    minift.save(ours, tmp_path)
    arguments = ["compare", str(tmp_path), "--length", "9", "--batch", "3"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "BertForTokenClassification" in out
    assert "3 random sequences of 2 to 9 tokens; float32" in out
    assert "\ngradients " in out
    assert out.endswith("ok: every difference is within its tolerance\n")
    assert main([*arguments, "--json", "--no-gradients"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"]
    assert data["model"] == str(tmp_path)
    assert [row["name"] for row in data["rows"]][-1] == "logits"


def test_command_exits_1_on_a_difference(tmp_path, capsys, monkeypatch):
    minift.save(minift.from_hf(hf_model("BertModel")), tmp_path)
    from minift.models import bert

    real = bert.BertEmbeddings.forward
    monkeypatch.setattr(bert.BertEmbeddings, "forward", lambda *a: real(*a) * 1.001)
    assert main(["compare", str(tmp_path), "--length", "9"]) == 1
    out = capsys.readouterr().out
    assert "NOT equal: the first module that differs is the model, between embeddings.norm" in out
    assert out.endswith("factor (reproduces it): ours is 1.001 times theirs\n")
    assert main(["compare", str(tmp_path), "--length", "9", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["first_difference"] == "embeddings"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none/of/this"], "none/of/this: no such folder; right: one with config.json and"),
        (["minilm", "--batch", "0"], "--batch: 0; right: at least 1"),
        (["minilm", "--length", "0"], "--length: 0; right: at least 1"),
        (["minilm", "--length", "513"], "input_ids: 513 tokens are more than the model's 512"),
    ],
)
def test_command_exits_2_on_wrong_input(arguments, message, capsys):
    assert main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"minift: error: {message}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
