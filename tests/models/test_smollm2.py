"""SmolLM2-135M-Instruct, from its GGUF file: against ``transformers``' own reader of it.

About 35 s of a core in all, for their reader of GGUF files and two replies of 64 tokens.
"""

import pytest
import torch
import transformers
from safetensors import safe_open
from tiny_hf import assert_close

import minift
from minift import assets
from minift.models.loading import hf_names

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTION = "What is attention in a transformer? Explain it simply."
TURNS = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def folder():
    return assets.fetch("smollm2", progress=False)


@pytest.fixture(scope="module")
def theirs(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=FILE, dtype=torch.float32
    ).eval()


@pytest.fixture(scope="module")
def ours():
    return minift.load("smollm2")


@pytest.fixture(scope="module")
def tokenizer():
    return minift.load_tokenizer("smollm2")


@pytest.fixture(scope="module")
def saved(ours, tokenizer, tmp_path_factory):
    """Model and tokenizer as this library saves them."""
    folder = tmp_path_factory.mktemp("smollm2")
    minift.save(ours, folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def prompt(tokenizer):
    """The ids of a chat's first turn, ``(1, T)``."""
    text = tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True)
    return tokenizer(text)["input_ids"]


def test_every_weight_is_theirs(ours, theirs):
    names, expected = hf_names(ours), dict(theirs.named_parameters())
    assert sorted(names.values()) == sorted(expected)
    assert sum(parameter.numel() for parameter in ours.parameters()) == 134_515_008
    differences = {
        name: float((parameter - expected[names[name]]).detach().abs().max())
        for name, parameter in ours.named_parameters()
    }
    assert max(differences.values()) == 0.0, differences


def test_the_config_is_theirs(ours, theirs):
    mine, wanted = ours.config.to_dict(), theirs.config.to_dict()
    known = mine.keys() & wanted.keys()
    assert {"rope_parameters", "eos_token_id", "rms_norm_eps", "head_dim"} <= known
    assert {name: mine[name] for name in known} == {name: wanted[name] for name in known}


def test_a_reply_of_64_tokens_is_theirs(ours, theirs, prompt):
    with torch.no_grad():
        assert_close(ours(prompt).logits, theirs(prompt).logits)  # measured: 0.0
    options = {"max_new_tokens": 64, "do_sample": False}
    wanted = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    assert wanted.shape == (1, prompt.shape[1] + 64)
    assert torch.equal(ours.generate(prompt, **options), wanted)


def test_what_is_saved_runs_in_transformers(ours, saved, prompt):
    again, info = transformers.AutoModelForCausalLM.from_pretrained(
        saved, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values()), info
    assert again.generation_config.eos_token_id == 2
    with torch.no_grad():
        assert_close(ours(prompt).logits, again(prompt).logits)  # measured: 0.0
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118


def test_the_tokenizer_is_theirs(folder, tokenizer, saved, prompt):
    """Their reader of GGUF files, and what they load from our files; digits behind one space."""
    from_gguf = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    again = transformers.AutoTokenizer.from_pretrained(saved)
    assert type(tokenizer).__name__ == "BPETokenizer"
    lines = [QUESTION, "I'm 1,234 years old.\n\n  naïve 🎉", "<|im_start|>user\nHi<|im_end|>\n"]
    for line in lines:
        wanted = from_gguf(line)["input_ids"]
        assert tokenizer.encode(line) == wanted == again(line)["input_ids"]
        assert tokenizer.decode(wanted) == from_gguf.decode(wanted) == line
    options = {"tokenize": False, "add_generation_prompt": True}
    template = from_gguf.apply_chat_template(TURNS, **options)
    assert again.apply_chat_template(TURNS, **options) == template == tokenizer.decode(prompt[0])
    assert "named SmolLM" in template and QUESTION in template
    assert (again.eos_token, again.pad_token, again.model_max_length) == (
        "<|im_end|>", "<|im_end|>", 8192,
    )  # fmt: skip
