"""kernels.choose_backend: who computes attention for these tensors?"""

from collections.abc import Iterator
from typing import Any

import torch

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals

TAKEN = (torch.float32, torch.float16, torch.bfloat16)


def of(device: str, dtype: torch.dtype, d: int, installed: bool, forced: str | None) -> Inputs:
    names = ("device", "dtype", "head_dim", "has_triton", "forced")
    return dict(zip(names, (device, dtype, d, installed, forced), strict=True))


def devices() -> Iterator[Inputs]:
    for device in ("cuda", "cpu", "mps"):
        yield of(device, torch.float32, 64, True, None)


def dtypes() -> Iterator[Inputs]:
    for dtype in (*TAKEN, torch.float64):
        yield of("cuda", dtype, 64, True, None)


def sizes() -> Iterator[Inputs]:
    for d in (4, 7, 8, 80, 256, 257, 512):
        yield of("cuda", torch.bfloat16, d, True, None)
    for seed in range(4):
        yield of("cuda", torch.bfloat16, draw(seed).randint(2, 400), True, None)


def installed() -> Iterator[Inputs]:
    yield of("cuda", torch.float16, 64, False, None)
    yield of("cpu", torch.float16, 64, False, None)


def forced() -> Iterator[Inputs]:
    for device in ("cuda", "cpu"):
        for name in ("triton", "torch", "eager"):
            yield of(device, torch.float32, 64, True, name)


def impossible() -> Iterator[Inputs]:
    yield of("cpu", torch.float64, 64, True, "triton")
    yield of("cuda", torch.float32, 4, True, "triton")
    yield of("cuda", torch.float32, 64, False, "triton")
    yield of("cuda", torch.float64, 4, False, "eager")


def run(fn: Any, *inputs: Any) -> Any:
    """The name, or the error that is part of the contract."""
    try:
        return fn(*inputs)
    except ValueError:
        return "ValueError"


exercise = Exercise(
    "kernels.choose_backend",
    "Choosing a backend",
    apply=run,
    properties=(
        Equals("takes the kernels on a GPU, PyTorch elsewhere", devices, "'cuda' is the GPU."),
        Equals("leaves dtypes that the kernels lack to PyTorch", dtypes, "fp64 is not taken."),
        Equals("leaves head sizes that they lack to PyTorch", sizes, "8 to 256, both included."),
        Equals("does without Triton", installed, "It may not be installed."),
        Equals("obeys when one is forced", forced, "A forced backend wins, on the CPU as well."),
        Equals("refuses what cannot work", impossible, "Better an error than another backend."),
    ),
    hints=(
        "One condition says whether the kernels could do it at all: Triton is there, the dtype is "
        "one of three, and 8 <= head_dim <= 256.",
        "If one is forced: raise ValueError when it is 'triton' and they could not; else return "
        "it. If none is forced: 'triton' when they could and the device is 'cuda'.",
    ),
)


@exercise.stub
def choose_backend(
    device: str, dtype: torch.dtype, head_dim: int, has_triton: bool, forced: str | None
) -> str:
    """Who computes attention: "triton", "torch" or "eager".

    The kernels ("triton") take float32, float16 and bfloat16 and head sizes of 8 to 256, if
    Triton is installed. They are chosen on "cuda"; elsewhere they would be interpreted, so "torch"
    is. `forced`, if not None, is obeyed, on any device: ValueError if it is "triton" and they
    cannot take it. "torch" and "eager" take everything.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(
    device: str, dtype: torch.dtype, head_dim: int, has_triton: bool, forced: str | None
) -> str:
    kinds = (torch.float32, torch.float16, torch.bfloat16)
    possible = has_triton and dtype in kinds and 8 <= head_dim <= 256
    if forced == "triton" and not possible:
        raise ValueError(f"forced: 'triton' cannot take {dtype}, head size {head_dim}")
    if forced is not None:
        return forced
    return "triton" if possible and device == "cuda" else "torch"


@exercise.reference
def by_table(
    device: str, dtype: torch.dtype, head_dim: int, has_triton: bool, forced: str | None
) -> str:
    able = all((has_triton, dtype in TAKEN, head_dim in range(8, 257)))
    wishes = {"torch": "torch", "eager": "eager", "triton": "triton" if able else "ValueError"}
    return wishes.get(str(forced), {True: "triton", False: "torch"}[able and device == "cuda"])


exercise.slip(
    "interprets_on_the_cpu",
    'possible and device == "cuda"',
    "possible",
    "Outside a GPU the kernels run in the interpreter, thousands of times slower: only on 'cuda'.",
)
exercise.slip(
    "any_dtype",
    " and dtype in kinds",
    "",
    "The dtype is not looked at: the kernels have no float64.",
)
exercise.slip(
    "powers_of_two_only",
    "8 <= head_dim <= 256",
    "head_dim in (8, 16, 32, 64, 128, 256)",
    "Any head size from 8 to 256 will do, not only powers of two.",
)
exercise.slip(
    "end_not_included",
    "8 <= head_dim <= 256",
    "8 < head_dim < 256",
    "Both ends are included: 8 <= head_dim <= 256.",
)
exercise.slip(
    "triton_not_asked_for",
    "has_triton and dtype",
    "dtype",
    "Triton may not be installed (macOS, Windows): look at has_triton.",
)
exercise.slip(
    "silently_another",
    "        raise ValueError(f\"forced: 'triton' cannot take {dtype}, head size {head_dim}\")",
    '        return "torch"',
    "Who forces the kernels and silently gets PyTorch will measure the wrong thing: ValueError.",
)
exercise.slip(
    "forced_only_on_a_gpu",
    "if forced is not None:",
    'if forced is not None and device == "cuda":',
    "A forced backend is obeyed on any device: that is how kernels are tested on a CPU.",
)
