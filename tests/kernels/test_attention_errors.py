"""Input that does not fit: one line with the argument and what was expected, and no launch."""

from typing import Any

import pytest
import torch
from attention_helpers import draw, looks_once_at_each_version, numbers_stay_finite_in_base_2

import kernels

NAN, INF = float("nan"), float("inf")


def ints(*values: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


Q, K, V = draw(8, 8, heads=4, kv_heads=2)
PACKED = {"cu_seqlens_q": ints(0, 3, 8), "cu_seqlens_k": ints(0, 3, 8)}


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def both_batches() -> dict[str, torch.Tensor]:
    return {"q": zeros(2, 4, 8, 16), "k": zeros(2, 2, 8, 16), "v": zeros(2, 2, 8, 16)}


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


Wrong = tuple[dict[str, Any], type[Exception], str]

TENSORS: dict[str, Wrong] = {
    "a list": ({"q": [1.0]}, TypeError, "q: expected a tensor, got list"),
    "float64": (
        {"q": Q.double(), "k": K.double(), "v": V.double()}, TypeError, r"q: expected.*float64"
    ),
    "integers": ({"q": Q.int(), "k": K.int(), "v": V.int()}, TypeError, r"q: expected.*int32"),
    "two dtypes": ({"k": K.half()}, TypeError, r"k: expected q, k, v all float32.*float16 beside"),
    "a third dtype": ({"v": V.bfloat16()}, TypeError, r"v: expected.*bfloat16 beside"),
    "another device": (
        {"v": meta(1, 2, 8, 16)}, ValueError, r"v: expected.*CPU or CUDA.*meta for v"
    ),
    "no device": (
        {"q": meta(1, 4, 8, 16), "k": meta(1, 2, 8, 16), "v": meta(1, 2, 8, 16)},
        ValueError, r"q: expected.*CPU or CUDA.*meta",
    ),
    "three dimensions": ({"q": Q[0]}, ValueError, "q: expected 4 dimensions"),
    "v unlike k": ({"v": zeros(1, 2, 9, 16)}, ValueError, "v: expected the shape of k"),
    "batch": (
        {"k": zeros(2, 2, 8, 16), "v": zeros(2, 2, 8, 16)}, ValueError, "k: expected batch 1"
    ),
    "head_dim": (
        {"k": zeros(1, 2, 8, 8), "v": zeros(1, 2, 8, 8)}, ValueError, "head_dim 16 as in q"
    ),
    "heads not divisible": (
        {"k": zeros(1, 3, 8, 16), "v": zeros(1, 3, 8, 16)}, ValueError, "k: .*must divide.*3 and 4"
    ),
    "no key heads": ({"k": K[:, :0], "v": V[:, :0]}, ValueError, "k: .*heads.*got 0"),
    "no query heads": ({"q": Q[:, :0]}, ValueError, "q: .*heads.*got 0|heads.*2 and 0"),
    "small D": ({"q": Q[..., :4], "k": K[..., :4], "v": V[..., :4]}, ValueError, "8 to 256, got 4"),
    "large D": (
        {"q": zeros(1, 4, 8, 264), "k": zeros(1, 2, 8, 264), "v": zeros(1, 2, 8, 264)},
        ValueError, "q: head_dim must be 8 to 256, got 264",
    ),
    "too long": (
        dict.fromkeys(("k", "v"), zeros(1, 1, 1, 16).expand(1, 1, 2**30, 16)),
        ValueError, f"k: at most {2**30 - 1} positions, got {2**30}",
    ),
}  # fmt: skip

NUMBERS: dict[str, Wrong] = {
    "scale NaN": ({"scale": NAN}, ValueError, "scale: expected.*finite in fp32, got nan"),
    "scale inf": ({"scale": -INF}, ValueError, "scale: expected.*finite in fp32, got -inf"),
    "scale infinite in fp32": ({"scale": 1e39}, ValueError, "scale: expected.*fp32, got 1e"),
    "scale infinite in base 2": ({"scale": 2.5e38}, ValueError, "scale: expected.*got 2.5e"),
    "softcap infinite in base 2": ({"softcap": 2.5e38}, ValueError, "softcap: expected.*got 2.5e"),
    "a very large scale": ({"scale": 10**400}, ValueError, "scale: expected.*finite in fp32"),
    "softcap infinite in fp32": ({"softcap": 1e39}, ValueError, "softcap: expected.*got 1e"),
    "scale in words": ({"scale": "0.1"}, TypeError, "scale: expected a number, got str"),
    "a tensor as scale": ({"scale": torch.tensor(0.1)}, TypeError, "scale: expected a number"),
    "no window": ({"window": 0}, ValueError, "window: expected 1 or more, got 0"),
    "negative window": ({"window": -3}, ValueError, "window: expected 1 or more, got -3"),
    "True as window": ({"window": True}, TypeError, "window: expected a whole number.*True"),
    "half a window": ({"window": 1.5}, TypeError, "window: expected a whole number.*1.5"),
    "no softcap": ({"softcap": 0.0}, ValueError, "softcap: expected a positive number"),
    "negative softcap": ({"softcap": -1.0}, ValueError, "softcap: expected.*got -1.0"),
    "softcap NaN": ({"softcap": NAN}, ValueError, "softcap: expected.*got nan"),
    "softcap inf": ({"softcap": INF}, ValueError, "softcap: expected.*got inf"),
    "softcap in words": ({"softcap": "2"}, TypeError, "softcap: expected a number, got str"),
    "everything dropped": (
        {"dropout_p": 1.0}, ValueError, "dropout_p: expected 0 <= p < 1, got 1.0"
    ),
    "negative dropout": ({"dropout_p": -0.1}, ValueError, "dropout_p: expected 0 <= p < 1"),
    "dropout NaN": ({"dropout_p": NAN}, ValueError, "dropout_p: expected 0 <= p < 1, got nan"),
    "dropout None": ({"dropout_p": None}, TypeError, "dropout_p: expected a number, got NoneType"),
    "seed in words": ({"seed": "1", "dropout_p": 0.5}, TypeError, "seed: expected an int"),
    "True as seed": ({"seed": True, "dropout_p": 0.5}, TypeError, "seed: expected an int.*bool"),
    "float seed": ({"seed": 1.5}, TypeError, "seed: expected an int.*float"),
    "long seed": ({"seed": 2**63}, ValueError, "seed: expected a number of 64 bits"),
    "two seeds": (
        {"seed": ints(1, 2, dtype=torch.int64)}, ValueError, r"seed: .*one int64.*\(2,\)"
    ),
    "int32 seed": ({"seed": ints(1)}, ValueError, "seed: expected.*int64.*got torch.int32"),
    "seed elsewhere": (
        {"seed": torch.empty(1, dtype=torch.int64, device="meta")}, ValueError, "seed: .*cpu.*meta"
    ),
}  # fmt: skip

OPTIONS: dict[str, Wrong] = {
    "slopes NaN": (
        {"alibi_slopes": torch.tensor([1.0, NAN, 1, 1])}, ValueError, "slopes: expected finite"
    ),
    "slopes inf": (
        {"alibi_slopes": torch.tensor([1.0, INF, 1, 1])}, ValueError, "alibi_slopes: .*infinity"
    ),
    "slopes of key heads": (
        {"alibi_slopes": zeros(2)}, ValueError, r"alibi_slopes: .*\(4,\) or \(1, 4\)"
    ),
    "whole slopes": ({"alibi_slopes": ints(1, 2, 3, 4)}, TypeError, "alibi_slopes: .*int32"),
    "a list of slopes": ({"alibi_slopes": [1.0] * 4}, TypeError, "alibi_slopes: expected a tensor"),
    "slopes elsewhere": ({"alibi_slopes": meta(4)}, ValueError, "alibi_slopes: .*cpu.*meta"),
    "slopes to learn": (
        {"alibi_slopes": zeros(4).requires_grad_()}, ValueError, "alibi_slopes: expected constants"
    ),
    "sinks of key heads": ({"sinks": zeros(2)}, ValueError, r"sinks: expected shape \(4,\)"),
    "whole sinks": ({"sinks": ints(1, 2, 3, 4)}, TypeError, "sinks: .*int32"),
    "sinks elsewhere": ({"sinks": meta(4)}, ValueError, "sinks: .*cpu.*meta"),
    "bias of two dimensions": ({"bias": zeros(8, 8)}, ValueError, r"bias: .*\(1, 4, 8, 8\), 4 dim"),
    "bias of another length": (
        {"bias": zeros(1, 1, 8, 9)}, ValueError, r"bias: .*got \(1, 1, 8, 9\)"
    ),
    "bias of key heads": ({"bias": zeros(1, 2, 8, 8)}, ValueError, r"bias: .*got \(1, 2, 8, 8\)"),
    "bias float64": (
        {"bias": zeros(1, 1, 8, 8).double()}, TypeError, "bias: expected float32.*float64"
    ),
    "bias of booleans": (
        {"bias": zeros(1, 1, 8, 8).bool()}, TypeError, "bias: expected float32.*bool"
    ),
    "bias elsewhere": ({"bias": meta(1, 1, 8, 8)}, ValueError, "bias: .*cpu.*meta"),
    "key mask of floats": ({"key_mask": zeros(1, 8)}, TypeError, "key_mask: expected torch.bool"),
    "key mask of another shape": (
        {"key_mask": zeros(8).bool()}, ValueError, r"key_mask: .*\(1, 8\)"
    ),
    "key mask elsewhere": ({"key_mask": meta(1, 8).bool()}, ValueError, "key_mask: .*cpu.*meta"),
}  # fmt: skip

SEQUENCES: dict[str, Wrong] = {
    "one of the pair": ({"cu_seqlens_q": ints(0, 8)}, ValueError, "cu_seqlens_k: .*got None"),
    "the other of the pair": ({"cu_seqlens_k": ints(0, 8)}, ValueError, "cu_seqlens_q: .*got None"),
    "falling": (
        PACKED | {"cu_seqlens_q": ints(0, 9, 8)}, ValueError, "cu_seqlens_q: expected to rise"
    ),
    "from 1": (PACKED | {"cu_seqlens_k": ints(1, 3, 8)}, ValueError, "cu_seqlens_k: .*from 0 to 8"),
    "wrong end": (
        PACKED | {"cu_seqlens_k": ints(0, 3, 7)}, ValueError, "cu_seqlens_k: .*from 0 to 8"
    ),
    "int64": (
        PACKED | {"cu_seqlens_q": ints(0, 3, 8, dtype=torch.int64)},
        TypeError, "cu_seqlens_q: .*int32.*int64",
    ),
    "two lengths": (
        PACKED | {"cu_seqlens_k": ints(0, 8)}, ValueError, r"cu_seqlens_.: .*\(3,\) and \(2,\)"
    ),
    "no sequence": (
        {"cu_seqlens_q": ints(0), "cu_seqlens_k": ints(0)}, ValueError, "cu_seqlens_q: .*plus 1"
    ),
    "two dimensions": (
        {"cu_seqlens_q": ints(0, 8)[None], "cu_seqlens_k": ints(0, 8)[None]}, ValueError,
        "cu_seqlens_q: .*one dimension"
    ),
    "a list": (PACKED | {"cu_seqlens_q": [0, 3, 8]}, TypeError, "cu_seqlens_q: expected a tensor"),
    "elsewhere": (
        PACKED | {"cu_seqlens_q": meta(3).int()}, ValueError, "cu_seqlens_q: .*cpu.*meta"
    ),
    "two batches": (PACKED | both_batches(), ValueError, "cu_seqlens_q: .*batch size 1, got 2"),
}  # fmt: skip

TABLES = {"qkv": TENSORS, "number": NUMBERS, "option": OPTIONS, "cu": SEQUENCES}
WRONG = {
    f"{kind}: {name}": wrong for kind, table in TABLES.items() for name, wrong in table.items()
}


@pytest.fixture(autouse=True)
def no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(*_: Any, **__: Any) -> None:
        pytest.fail("a kernel was launched")

    monkeypatch.setattr("kernels.flash_attention.call.launch", launch)


@pytest.mark.parametrize("name", WRONG)
def test_refused_before_any_launch(name: str) -> None:
    given, error, match = WRONG[name]
    with pytest.raises(error, match=match) as caught:
        kernels.attention(**{"q": Q, "k": K, "v": V, **given})
    assert "\n" not in str(caught.value)


def test_boundaries_are_looked_at_again_for_another_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether they end at the right place is a question about q and k too."""
    monkeypatch.undo()
    kernels.attention(Q, K, V, **PACKED)
    with pytest.raises(ValueError, match=r"cu_seqlens_q: .*from 0 to 7"):
        kernels.attention(Q[:, :, :7], K, V, **PACKED)
    PACKED["cu_seqlens_k"][2] = 9
    try:
        with pytest.raises(ValueError, match=r"cu_seqlens_k: .*from 0 to 8"):
            kernels.attention(Q, K, V, **PACKED)
    finally:
        PACKED["cu_seqlens_k"][2] = 8


def test_values_are_looked_at_once_after_each_change() -> None:
    assert looks_once_at_each_version()


def test_numbers_up_to_the_largest_in_base_2() -> None:
    assert numbers_stay_finite_in_base_2()


def test_a_window_longer_than_any_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    everything = kernels.attention(Q, K, V)
    for window in (8, 2**31, 2**70):
        assert torch.equal(kernels.attention(Q, K, V, window=window), everything)
