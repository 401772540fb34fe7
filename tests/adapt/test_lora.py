"""LoRA against the ``peft`` library, in memory and through files."""

import json

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import minift
from minift.adapt.lora import LoraLinear, add_lora, merge_lora
from minift.adapt.lora_files import load_lora, save_lora, trained
from minift.errors import InputError

CASES = {
    "bert-qv": ("bert", ["query", "value"], 3, 6.0),
    "bert-ours": ("bert", ["output", "up"], 2, 1.0),
    "bert-dense": ("bert", ["dense"], 1, 3.0),
    "bert-regex": ("bert", r".*layer\.1.*\.(key|value)", 4, 4.0),
    "gpt2": ("gpt2", ["c_attn", "mlp.c_proj"], 3, 5.0),
}
# the same layers by Hugging Face's names, where the case has ours
PEFT_TARGETS = {"bert-ours": ["attention.output.dense", "intermediate.dense"]}


def hf_model(family):
    torch.manual_seed(0)
    if family == "bert":
        sizes = {"vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 2}
        sizes |= {"num_attention_heads": 4, "intermediate_size": 40, "num_labels": 5}
        model = transformers.BertForTokenClassification(transformers.BertConfig(**sizes))
    else:
        sizes = {"vocab_size": 53, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 40}
        config = transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=1)
        model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2)
    return model.eval()


def pair(case, tmp_path, *, dropout=0.0, kept=("classifier",)):
    """Our model and peft's with the same base and the same random adapter weights."""
    family, targets, r, alpha = CASES[case]
    kept = list(kept) if family == "bert" else []
    base = hf_model(family)
    ours = minift.from_hf(base)
    add_lora(ours, targets, r, alpha, dropout, modules_to_save=kept)
    config = peft.LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=PEFT_TARGETS.get(case, targets),
        modules_to_save=kept or None,
        fan_in_fan_out=family == "gpt2",
    )
    theirs = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.3)
    theirs.save_pretrained(tmp_path / "peft")
    return ours, theirs


def batch():
    ids = torch.randint(0, 53, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(9)[None] < torch.tensor([9, 4, 6])[:, None]).long()
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": (ids % 5).masked_fill(mask == 0, -100),
    }


def peft_names(model):
    """peft's parameters by the names that it gives them in files."""
    named = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            named[name.replace(".default", "").replace(".modules_to_save", "")] = parameter
    return named


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_outputs_and_gradients(case, dropout, tmp_path):
    _, theirs = pair(case, tmp_path, dropout=dropout)
    ours = minift.from_hf(hf_model(CASES[case][0]))
    load_lora(ours, tmp_path / "peft")
    mine, wanted = trained(ours), peft_names(theirs)
    assert sorted(mine) == sorted(wanted)
    losses = []
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(0)
        losses.append(model(**batch()).loss)
        losses[-1].backward()
    assert abs(float(losses[0].detach() - losses[1].detach())) <= 2e-6
    for name, parameter in mine.items():
        difference = (parameter.grad - wanted[name].grad).abs().max()
        # measured: 2.4e-7
        assert float(difference) <= 2e-6, name
        assert parameter.grad.any(), name
    frozen = [parameter for parameter in ours.parameters() if not parameter.requires_grad]
    assert frozen
    assert all(parameter.grad is None for parameter in frozen)


@pytest.mark.parametrize("case", CASES)
def test_saved_for_peft(case, tmp_path):
    ours, _ = pair(case, tmp_path)
    with torch.no_grad():
        for parameter in ours.parameters():
            if parameter.requires_grad:
                parameter.normal_(0.0, 0.3)
    save_lora(ours, tmp_path / "ours")
    files = sorted(path.name for path in (tmp_path / "ours").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    theirs = peft.PeftModel.from_pretrained(hf_model(CASES[case][0]), tmp_path / "ours").eval()
    with torch.no_grad():
        mine, wanted = ours.eval()(**batch()), theirs(**batch())
    assert float((mine.logits - wanted.logits).abs().max()) <= 5e-6
    again = load_lora(minift.from_hf(hf_model(CASES[case][0])), tmp_path / "ours")
    assert torch.equal(again(**batch()).logits, mine.logits)
    assert sum(p.requires_grad for p in again.parameters()) == sum(
        p.requires_grad for p in ours.parameters()
    )


@pytest.mark.parametrize("case", CASES)
def test_merging(case, tmp_path):
    ours, theirs = pair(case, tmp_path)
    ours = load_lora(minift.from_hf(hf_model(CASES[case][0])), tmp_path / "peft")
    with torch.no_grad():
        before = ours(**batch()).logits
        assert merge_lora(ours) is ours
        after = ours(**batch()).logits
    # measured: 1e-6
    assert float((after - before).abs().max()) <= 5e-6
    assert not any(isinstance(module, LoraLinear) for module in ours.modules())
    assert all(parameter.requires_grad for parameter in ours.parameters())
    merged = theirs.merge_and_unload()
    back = dict(minift.to_hf(ours).named_parameters())
    for name, parameter in merged.named_parameters():
        assert float((parameter - back[name]).detach().abs().max()) <= 1e-6, name
    minift.save(ours, tmp_path / "merged")


def test_training_starts_from_the_model_and_moves_only_the_adapters():
    ours = minift.from_hf(hf_model("bert"))
    before = {name: p.detach().clone() for name, p in ours.named_parameters()}
    logits = ours(**batch()).logits
    add_lora(ours, ["query", "value"], r=3, alpha=6)
    assert torch.equal(ours(**batch()).logits, logits)
    trainable = [p for p in ours.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == 2 * 2 * 2 * 3 * 24
    optimizer = torch.optim.AdamW(trainable, lr=1e-2)
    losses = []
    for _ in range(20):
        loss = ours(**batch()).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    for name, parameter in ours.named_parameters():
        if not parameter.requires_grad:
            assert torch.equal(parameter, before[name.replace(".base.", ".")]), name
    a = ours.bert.layers[0].attention.query.a
    bound = 1 / 24**0.5  # uniform in ±1/√in, as nn.Linear
    fresh = add_lora(minift.from_hf(hf_model("bert")), ["query"], r=24)
    a = fresh.bert.layers[0].attention.query.a
    assert float(a.abs().max()) <= bound
    assert float(a.std()) == pytest.approx(bound / 3**0.5, rel=0.1)


def test_an_unmerged_model_is_not_saved_as_a_model(tmp_path):
    ours = add_lora(minift.from_hf(hf_model("bert")), ["query"])
    with pytest.raises(InputError, match="right: merge its adapters first"):
        minift.save(ours, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def refused(function, *args, **options):
    with pytest.raises(InputError) as caught:
        function(*args, **options)
    return str(caught.value)


def test_what_is_refused(tmp_path):
    ours = minift.from_hf(hf_model("bert"))
    known = "classifier, down, key, output, query, up, value"
    assert refused(add_lora, ours, ["query", "c_attn"]) == (
        f"targets: c_attn is no linear layer; known: {known}"
    )
    assert refused(add_lora, ours, []) == f"targets: none given; known: {known}"
    assert refused(add_lora, ours, "(") == (
        "targets: '(' is not a regular expression (missing ), unterminated subpattern)"
    )
    right = "right: r ≥ 1 and 0 ≤ dropout < 1"
    assert refused(add_lora, ours, ["query"], r=0) == f"r: 0, dropout: 0.0; {right}"
    assert refused(add_lora, ours, ["query"], dropout=1.0) == f"r: 8, dropout: 1.0; {right}"
    assert refused(add_lora, ours, ["query"], modules_to_save=["score"]) == (
        "modules_to_save: BertForTokenClassification has no 'score'"
    )
    assert refused(save_lora, ours, tmp_path / "x") == (
        "model: has no adapters; right: add_lora(model, …) first"
    )
    assert all(parameter.requires_grad for parameter in ours.parameters())
    add_lora(ours, ["query"])
    assert refused(add_lora, ours, ["query"]) == (
        "model: has adapters already; right: merge_lora(model) first"
    )


def test_bad_adapter_folders(tmp_path):
    pair("bert-qv", tmp_path)
    folder = tmp_path / "peft"
    fresh = minift.from_hf(hf_model("bert"))
    assert refused(load_lora, fresh, tmp_path / "none").endswith(
        "none/adapter_config.json: no such file"
    )
    config = json.loads((folder / "adapter_config.json").read_text())

    def with_config(**options):
        (folder / "adapter_config.json").write_text(json.dumps({**config, **options}))
        return refused(load_lora, fresh, folder).replace(str(folder), "FOLDER")

    start = "FOLDER/adapter_config.json:"
    assert with_config(use_dora=True) == f"{start} use_dora=True is not supported; right: False"
    assert (
        with_config(peft_type="IA3") == f"{start} peft_type='IA3' is not supported; right: 'LORA'"
    )
    assert with_config(r="many") == f"{start} r='many'; right: a whole number"
    assert with_config(target_modules=None) == (
        f"{start} target_modules=None; right: a list of names or a regular expression"
    )
    got = with_config(r=2)
    assert got.startswith("FOLDER/adapter_model.safetensors: does not fit the model: base_model.")
    assert got.endswith("lora_A.weight and 5 more")
    # a refused adapter leaves the model as it was
    assert not any(isinstance(module, LoraLinear) for module in fresh.modules())
    assert all(parameter.requires_grad for parameter in fresh.parameters())
    tensors = load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
    del tensors[name]
    save_file(tensors, folder / "adapter_model.safetensors")
    assert with_config() == f"FOLDER/adapter_model.safetensors: does not fit the model: {name}"
    (folder / "adapter_model.safetensors").write_bytes(b"\x80\x04.")
    assert "is a pickle under a safetensors name" in with_config()
