"""A GGUF file's metadata as the content of a ``config.json``, strictly.

llama.cpp keeps Llama, Mistral and SmolLM under the architecture ``llama``. What a file says of its
architecture and is not understood here is an error: it could change what the model computes.
"""

from typing import Any, TypeVar

import torch

from minift.errors import InputError, one_of
from minift.layers.rope_scaling import default, llama3
from minift.layers.rotary import Rope
from minift.models.gguf.reader import GGUF

T = TypeVar("T", int, float, str)

CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
SIZES = {
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
}
SPECIAL = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}


def config_of(file: GGUF) -> dict[str, Any]:
    """The content of a ``config.json``, under Hugging Face's names.

    Raises:
        InputError: an architecture or an option of it that is not supported; an entry that is
            missing or of another type.
    """
    _check_whole(file)
    entries = _Entries(file)
    config: dict[str, Any] = {"model_type": entries.architecture}
    config["architectures"] = [CLASSES[entries.architecture]]
    config |= {ours: entries.take(theirs, int) for ours, theirs in SIZES.items()}
    _check_layers(entries, config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    config["num_key_value_heads"] = entries.take("attention.head_count_kv", int, heads)
    config["head_dim"] = _head_dim(entries, config)
    config["rms_norm_eps"] = entries.take("attention.layer_norm_rms_epsilon", float)
    config["rope_parameters"] = _rope(entries, config["head_dim"])
    config["vocab_size"] = _vocab_size(entries)
    entries.finish()
    config["hidden_act"] = "silu"
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    if entries.architecture != "qwen2":  # whose bias needs no option
        config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    if entries.architecture == "llama":
        config["mlp_bias"] = "blk.0.ffn_up.bias" in file.tensors
    return config | _special_tokens(file, config["vocab_size"])


class _Entries:
    """What the metadata say of the architecture: each entry is asked for, or else an error."""

    def __init__(self, file: GGUF) -> None:
        self.file = file
        self.architecture = f"{file.metadata.get('general.architecture')!s:.80}"
        if self.architecture not in CLASSES:
            error = one_of("general.architecture", self.architecture, list(CLASSES))
            raise InputError(f"{file.path}: {error}")
        prefix = f"{self.architecture}."
        self.left = {
            key.removeprefix(prefix): value
            for key, value in file.metadata.items()
            if key.startswith(prefix)
        }

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """An entry's value, of the type ``kind``; it has to be there if there is no default."""
        value = self.left.pop(key, default)
        if type(value) is not kind:
            given = "missing" if value is None else f"{value!r:.80}"
            raise self.error(key, f"is {given}", f"of type {kind.__name__}")
        return value

    def error(self, key: str, given: str, right: str) -> InputError:
        """An error about one entry."""
        return InputError(
            f"{self.file.path}: {self.architecture}.{key:.80} {given}; right: {right}"
        )

    def finish(self) -> None:
        """Raises InputError if an entry is left that nobody asked for."""
        for key in ("expert_count", "expert_used_count"):  # some files say that there are none
            if self.left.get(key) == 0:
                del self.left[key]
        for key, value in self.left.items():
            raise self.error(key, f"is {value!r:.80}", "a model without this option, it is unknown")


def _check_whole(file: GGUF) -> None:
    parts = file.metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        right = "one file, by `llama-gguf-split --merge`"
        raise InputError(f"{file.path}: is one of the {parts} parts of a model; right: {right}")


def _check_layers(entries: _Entries, said: int) -> None:
    """A number that is much too large would fill the memory with layers that have no weights."""
    found = len({name.split(".")[1] for name in entries.file.tensors if name.startswith("blk.")})
    if said != found:
        raise entries.error("block_count", f"is {said}", f"{found}, the layers that have tensors")


def _head_dim(entries: _Entries, config: dict[str, Any]) -> int:
    heads = config["num_attention_heads"]
    size = config["hidden_size"] // max(heads, 1)
    if entries.architecture == "llama":
        size = entries.take("rope.dimension_count", int, size)
    size = entries.take("attention.key_length", int, size)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (other := entries.take(key, int, size)) != size:
            raise entries.error(key, f"is {other}", f"{size}, as that of the keys")
    q = entries.file.tensors.get("blk.0.attn_q.weight")
    if q is None or q.shape[0] != heads * size:
        rows = "is not there" if q is None else f"has {q.shape[0]} rows"
        given = f"is {heads} and a head has {size} features, but blk.0.attn_q.weight {rows}"
        raise entries.error("attention.head_count", given, "as many rows as their product")
    return size


def _vocab_size(entries: _Entries) -> int:
    embedding = entries.file.tensors.get("token_embd.weight")
    if embedding is None:
        raise InputError(f"{entries.file.path}: no tensor token_embd.weight; right: a whole model")
    rows = embedding.shape[0]
    if (said := entries.take("vocab_size", int, rows)) != rows:
        raise entries.error("vocab_size", f"is {said}", f"{rows}, the rows of token_embd.weight")
    return rows


def _special_tokens(file: GGUF, vocab_size: int) -> dict[str, int]:
    ids = {}
    for ours, theirs in SPECIAL.items():
        key = f"tokenizer.ggml.{theirs}_token_id"
        value = file.metadata.get(key)
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < vocab_size:
            raise InputError(f"{file.path}: {key} is {value!r:.80}; right: 0…{vocab_size - 1}")
        ids[ours] = value
    return ids


def _rope(entries: _Entries, head_dim: int) -> dict[str, Any]:
    theta = entries.take("rope.freq_base", float, 10000.0)
    rope = {"rope_type": "default", "rope_theta": theta}
    if "rope_freqs.weight" in entries.file.tensors:
        return rope | _llama3(entries.file, theta, head_dim)
    kind = entries.take("rope.scaling.type", str, "none")
    if kind == "linear":
        return rope | {"rope_type": kind, "factor": entries.take("rope.scaling.factor", float)}
    if kind != "none":
        raise entries.error("rope.scaling.type", f"is {kind!r}", "'none' or 'linear'")
    return rope


def _llama3(file: GGUF, theta: float, head_dim: int) -> dict[str, Any]:
    """Llama 3.1's scaling: the file has only what each frequency is divided by.

    Of the four numbers that make it, three are the same in all published models; the fourth is
    the largest divisor. The file's divisors must come out of them again.
    """
    given = file.tensor("rope_freqs.weight")
    scaling = {
        "rope_type": "llama3",
        "factor": float(given.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    rope = Rope.from_parameters(scaling | {"rope_theta": theta}, head_dim, 8192)
    length = torch.tensor(1)  # of the text; the scaling does not look at it
    wanted = default(rope, length) / llama3(rope, length)  # (D/2,)
    if given.shape != wanted.shape or not torch.allclose(given, wanted, rtol=1e-4):
        raise InputError(
            f"{file.path}: rope_freqs.weight is not Llama 3.1's scaling of frequencies; right: "
            f"its {len(wanted)} divisors for {scaling}"
        )
    return scaling
