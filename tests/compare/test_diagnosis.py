"""The clinic: each mistake is found in the right module and called by its name."""

import json

import pytest
import torch
import transformers
from clinic import CASES, SIZES, Case, batch, broken, hf_model
from clinic_decoders import DECODER_CASES
from matplotlib import pyplot as plt

import minift
from minift.__main__ import main
from minift.compare import diagnose, draw
from minift.compare.table import LIMIT
from minift.errors import InputError

ALL = [*CASES, *DECODER_CASES]
MODELS = {case.model: case for case in reversed(ALL)}


def found_in(case: Case, seed: int = 0):
    """What is said of a broken model."""
    theirs = hf_model(case, seed)
    ours = minift.from_hf(theirs)
    ids, mask = batch(case.side, seed)
    labels = ids.masked_fill(mask == 0, -100) if case.labels else None
    if case.module == "loss":
        mask, labels = torch.ones_like(mask), ids
    with broken(case, ours):
        return diagnose(ours, theirs, ids, mask, labels=labels)


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.model}: {case.name}")
def test_each_mistake_is_localised_and_named(case):
    diagnosis = found_in(case)
    first = diagnosis.causes[0]
    line = f"{case.model:<28}{case.name:<42}{diagnosis.first:<40}{first.name}"
    print(line)  # the localisation table: pytest -rP
    assert not diagnosis.ok
    assert (diagnosis.first, first.name, first.reproduced) == (case.module, case.cause, True), (
        diagnosis.verdict()
    )
    assert diagnosis.first in diagnosis.verdict()
    assert f"{first.name} (reproduces it): " in diagnosis.verdict()


def test_the_clinic_is_large_enough():
    assert len({case.name for case in ALL}) >= 15
    assert {case.model for case in ALL} >= {"BertModel", "GPT2LMHeadModel", "LlamaForCausalLM"}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_healthy_model_is_called_healthy(model, side):
    theirs = hf_model(MODELS[model], seed=3)
    ours = minift.from_hf(theirs)
    ids, mask = batch(side, 3)
    decoder = {"decoder_input_ids": ids[:, :7]} if theirs.config.is_encoder_decoder else {}
    diagnosis = diagnose(ours, theirs, ids, mask, **decoder)
    assert diagnosis.ok, diagnosis.verdict()
    assert diagnosis.first is None
    assert diagnosis.causes == []
    assert diagnosis.report.ok
    assert diagnosis.table().endswith("ok: every difference is within its tolerance")
    measured = [x for s in diagnosis.sites for x in (s.forward, s.backward) if x is not None]
    assert len(measured) > 40
    assert max(measured) <= LIMIT
    # every paired module is seen on both sides
    names = {site.name for site in diagnosis.sites}
    missing = [n for n, m in ours.named_modules() if list(m.parameters(recurse=False))]
    # a head is the logits; T5's table is looked up by its stacks in transformers
    assert {name for name in missing if name not in ("lm_head", "shared")} <= names


def test_as_many_tokens_as_heads_or_labels():
    """Where two dimensions are of one size, shapes do not say which is which."""
    theirs = hf_model(MODELS["Qwen3ForCausalLM"])  # 4 heads; theirs norms (B, T, H, D)
    ids, mask = batch()
    assert diagnose(minift.from_hf(theirs), theirs, ids[:, :4], mask[:, :4]).ok
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.BertConfig(**sizes, vocab_size=53, intermediate_size=9, num_labels=11)
    theirs = transformers.BertForSequenceClassification(config).eval()
    assert diagnose(minift.from_hf(theirs), theirs, ids, mask).ok


HEADS = ["BertForPreTraining", "BertForMaskedLM", "BertForNextSentencePrediction", "GPT2Model",
         "BertForSequenceClassification", "GPT2ForSequenceClassification"]  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_healthy_models_with_other_heads(name, side):
    base = "BertModel" if name.startswith("Bert") else "GPT2LMHeadModel"
    cls = getattr(transformers, name)
    theirs = cls(cls.config_class(**SIZES[base], pad_token_id=0)).eval()
    ids, mask = batch(side)
    ids = ids.clamp(min=1).masked_fill(mask == 0, 0)
    ours = minift.from_hf(theirs)
    assert diagnose(ours, theirs, ids, mask).ok
    layers = getattr(ours, "bert", getattr(ours, "transformer", ours)).layers
    layers[1].feed_forward.act = torch.relu
    diagnosis = diagnose(ours, theirs, ids, mask)
    assert diagnosis.first.endswith("layers.1.feed_forward")
    assert [cause.name for cause in diagnosis.causes] == ["activation variant"]


def test_a_healthy_model_of_images():
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
        image_size=8, patch_size=4, num_labels=5,
    )  # fmt: skip
    theirs = transformers.ViTForImageClassification(config).eval()
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    ours = minift.from_hf(theirs)
    assert diagnose(ours, theirs, images).ok
    ours.vit.layers[1].norm_2.eps = 1e-2
    diagnosis = diagnose(ours, theirs, images)
    assert (diagnosis.first, diagnosis.causes[0].name) == ("vit.layers.1.norm_2", "norm epsilon")


def test_a_broken_model_against_a_good_one_of_ours():
    case = next(c for c in CASES if c.name == "norm epsilon 1e-3")
    good = minift.from_hf(hf_model(case))
    bad = minift.from_hf(hf_model(case))
    bad.layers[1].norm.eps = 1e-3
    diagnosis = diagnose(bad, good, *batch())
    assert diagnosis.first == "layers.1.norm"
    assert [cause.name for cause in diagnosis.causes] == ["norm epsilon"]
    assert "about 0.001 here, 1e-12 in theirs" in diagnosis.verdict()
    assert diagnose(good, minift.from_hf(hf_model(case)), *batch()).ok


def test_a_class_derived_from_ours_can_be_examined():
    case = CASES[0]
    theirs = hf_model(case)

    class Mine(minift.models.bert.BertModel):
        pass

    ours = Mine(minift.from_hf(theirs).config).eval()
    ours.load_state_dict(minift.from_hf(theirs).state_dict())
    assert diagnose(ours, theirs, *batch()).ok
    with pytest.raises(InputError, match="ours: unknown 'Linear'"):
        diagnose(torch.nn.Linear(2, 2), theirs, *batch())


def test_two_types_cannot_be_compared():
    ours = minift.from_hf(hf_model(CASES[0]))
    theirs = hf_model(MODELS["GPT2LMHeadModel"])
    with pytest.raises(InputError, match="theirs: a gpt2, ours is a bert; right: two models of"):
        diagnose(ours, theirs, *batch())


def test_what_nothing_reproduces_gets_the_usual_suspects():
    case = CASES[0]
    theirs = hf_model(case)
    ours = minift.from_hf(theirs)
    real = ours.layers[1].norm.forward
    ours.layers[1].norm.forward = lambda x: real(x) + torch.sin(7 * x)
    diagnosis = diagnose(ours, theirs, *batch())
    assert diagnosis.first == "layers.1.norm"
    assert not any(cause.reproduced for cause in diagnosis.causes)
    assert "norm epsilon (possible): usual at a place like this (norm)" in diagnosis.verdict()


def hooks_of(model):
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


def test_nothing_is_left_changed():
    theirs = hf_model(CASES[0])
    ours = minift.from_hf(theirs).train()
    state = torch.random.get_rng_state()
    ours.layers[0].norm.eps = 0.1
    theirs(batch()[0], output_hidden_states=True)  # hooks of its own come with the first run
    hooks = [hooks_of(model) for model in (ours, theirs)]
    diagnose(ours, theirs, *batch())
    assert [hooks_of(model) for model in (ours, theirs)] == hooks
    assert torch.equal(torch.random.get_rng_state(), state)
    assert ours.training
    for model in (ours, theirs):
        assert all(parameter.grad is None for parameter in model.parameters())


def test_without_gradients():
    theirs = hf_model(CASES[0])
    ours = minift.from_hf(theirs)
    diagnosis = diagnose(ours, theirs, *batch(), gradients=False)
    assert diagnosis.ok
    assert all(site.backward is None for site in diagnosis.sites)
    ours.layers[2].norm.eps = 0.1
    assert diagnose(ours, theirs, *batch(), gradients=False).first == "layers.2.norm"


def test_nan_is_found_where_it_is_made():
    theirs = hf_model(CASES[0])
    ours = minift.from_hf(theirs)
    with torch.no_grad():
        ours.layers[1].feed_forward.up.bias[3] = float("nan")
    diagnosis = diagnose(ours, theirs, *batch())
    assert diagnosis.first == "layers.1.feed_forward.up"
    assert json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))["ok"] is False


def test_the_figure():
    case = next(c for c in CASES if c.name == "gelu_new for gelu")
    diagnosis = found_in(case)
    layers = diagnosis.layers()
    assert list(layers)[-3:] == ["layers.1", "layers.2", "pooler"]
    assert layers["layers.1"][0] <= LIMIT < layers["layers.2"][0]
    figure = draw(diagnosis)
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == list(layers)
    assert axes.get_xlabel() == "difference / noise floor"
    assert axes.get_title() == "first: layers.2.feed_forward"
    forward, backward = axes.containers
    by_name = dict(zip(labels, forward, strict=True))
    assert by_name["layers.2"].get_width() == pytest.approx(layers["layers.2"][0])
    assert len(backward) == len(layers)
    close = draw(diagnosis, modules=True).axes[0]
    names = [label.get_text() for label in close.get_yticklabels()]
    assert "layers.2.feed_forward.down, input" in names
    plt.close("all")


def test_the_command_compares_two_folders(tmp_path, capsys):
    case = CASES[0]
    theirs = hf_model(case)
    theirs.save_pretrained(tmp_path / "a")
    with torch.no_grad():
        theirs.encoder.layer[1].output.dense.bias.add_(0.1)
    minift.save(minift.from_hf(theirs), tmp_path / "b")
    arguments = ["compare", str(tmp_path / "a"), "--length", "9", "--batch", "2"]
    assert main(arguments) == 0
    assert "layers.2" in capsys.readouterr().out
    assert main([*arguments, "--against", str(tmp_path / "b"), "--modules"]) == 1
    out = capsys.readouterr().out
    assert "layers.1.feed_forward.down output" in out
    assert "the first module that differs is layers.1.feed_forward.down\n" in out
    assert "  weights differ (reproduces it): " in out
    assert main([*arguments, "--against", str(tmp_path / "b"), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["first_module"] == "layers.1.feed_forward.down"
    assert data["causes"][0]["reproduced"] is True
    assert data["against"] == str(tmp_path / "b")


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "T5ForConditionalGeneration", "vit"])
def test_the_command_takes_every_kind_of_model(name, tmp_path, capsys):
    if name == "vit":
        sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.ViTConfig(**sizes, intermediate_size=9, image_size=8, patch_size=4)
        transformers.ViTModel(config).save_pretrained(tmp_path)
    else:
        hf_model(MODELS[name]).save_pretrained(tmp_path)
    assert main(["compare", str(tmp_path), "--length", "9", "--batch", "2"]) == 0
    out = capsys.readouterr().out
    what = "2 random images of 8 × 8 pixels" if name == "vit" else "2 random sequences of 2 to 9"
    assert what in out
    assert out.endswith("ok: every difference is within its tolerance\n")


def test_the_command_refuses_another_family(tmp_path, capsys):
    hf_model(CASES[0]).save_pretrained(tmp_path / "a")
    transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=16,
                                bos_token_id=1, eos_token_id=1)
    ).save_pretrained(tmp_path / "b")  # fmt: skip
    assert main(["compare", str(tmp_path / "a"), "--against", str(tmp_path / "b")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("minift: error: theirs: a gpt2, ours is a bert")
    assert main(["compare", str(tmp_path / "a"), "--against", str(tmp_path / "c")]) == 2
    assert "no such folder" in capsys.readouterr().err
