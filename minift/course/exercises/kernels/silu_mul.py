"""kernels.silu_mul: the gate of Llama's feed-forward layer, fused, in fp32 inside, rounded once."""

# mypy: disable-error-code="no-untyped-def"

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.launch import Compiles, Part, launch


def small() -> Iterator[Inputs]:
    yield {"gate": torch.tensor([0.0, 1.0, 2.0, -1.0]), "up": torch.ones(4), "block": 4}
    yield {"gate": torch.ones(4), "up": torch.tensor([0.0, 1.0, 2.0, -1.0]), "block": 4}


def ragged() -> Iterator[Inputs]:
    for seed, (n, block) in enumerate([(5, 4), (1, 2), (3, 8), (64, 16), (257, 64)]):
        yield {"gate": normal(n, seed=seed), "up": normal(n, seed=100 + seed), "block": block}
    yield {"gate": torch.tensor([-200.0, 200.0]), "up": torch.ones(2), "block": 2}


def halves() -> Iterator[Inputs]:
    """Numbers of 16 bits whose exact result lies clear of a tie: one rounding has one answer."""
    for dtype in (torch.float16, torch.bfloat16):
        for inputs in ragged():
            gate, up = inputs["gate"].to(dtype), inputs["up"].to(dtype)
            clear = ~near_tie(silu_times(gate, up), dtype)
            yield {"gate": gate[clear], "up": up[clear], "block": inputs["block"]}


def near_tie(exact: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether a change of 1e-4 of the value's spacing would round to another neighbour."""
    wobble = exact.abs() * torch.finfo(dtype).eps * 1e-4
    return (exact - wobble).to(dtype) != (exact + wobble).to(dtype)


def silu_times(gate: Tensor, up: Tensor) -> Tensor:
    return torch.nn.functional.silu(gate.double()) * up.double()


def run(kernel: Any, gate: Tensor, up: Tensor, block: int) -> dict[str, Any]:
    """Launch with ⌈n / block⌉ programs into an output full of NaN."""
    out, n = torch.full_like(gate, float("nan")), gate.numel()
    moved = launch(kernel, triton.cdiv(n, block), gate, up, out, n, BLOCK=block)
    return {"out": out, "bytes": (moved.loaded + moved.stored) / n}


def real() -> Iterator[Inputs]:
    for dtype in (torch.float32, torch.bfloat16):
        args = (*[torch.empty(8, dtype=dtype)] * 3, 8)
        yield {"args": args, "constants": {"BLOCK": 1024}}


exercise = Exercise(
    "kernels.silu_mul",
    "A fused gate: fp32 inside, one rounding",
    apply=run,
    properties=(
        Part("equals silu(gate) · up", small, "silu(g) = g · sigmoid(g), and up is a factor."),
        Part("equals it when BLOCK does not divide n", ragged, "Mask the lanes with no element."),
        Part(
            "computes in fp32 and rounds once, in float16 and bfloat16",
            halves,
            "A step in between was rounded to 16 bits: turn both inputs into fp32 first.",
            ulps=0,
        ),
        Part(
            "moves three numbers an element: reads gate and up once, writes out once",
            ragged,
            "Something is read or written twice.",
            part="bytes",
        ),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "Offsets and mask are those of vector_add; only the line between load and store is new.",
        "tl.load(…) gives numbers of the tensor's type. `.to(tl.float32)` after it makes them "
        "fp32, and tl.sigmoid takes nothing smaller.",
        "out = gate · tl.sigmoid(gate) · up. tl.store rounds it to the tensor's type by itself.",
    ),
)


@exercise.stub
@triton.jit
def silu_mul(gate_ptr, up_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[i] = silu(gate[i]) · up[i] for 0 <= i < n, with silu(g) = g / (1 + exp(-g)).

    fp32, fp16 or bf16; computed in fp32 and rounded once. Launched with ⌈n / BLOCK⌉ programs.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(gate_ptr, up_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    gate = tl.load(gate_ptr + i, mask=mask).to(tl.float32)
    up = tl.load(up_ptr + i, mask=mask).to(tl.float32)
    out = gate * tl.sigmoid(gate) * up
    tl.store(out_ptr + i, out, mask=mask)


@exercise.reference
def in_fp64(gate: Tensor, up: Tensor, block: int) -> dict[str, Any]:
    out = silu_times(gate, up).to(gate.dtype)
    return {"out": out, "bytes": 3.0 * gate.element_size()}


exercise.slip(
    "sigmoid_alone",
    "gate * tl.sigmoid(gate) * up",
    "tl.sigmoid(gate) * up",
    "That is sigmoid(gate) · up; silu(g) is g · sigmoid(g).",
)
exercise.slip(
    "gates_exchanged",
    "gate * tl.sigmoid(gate) * up",
    "up * tl.sigmoid(up) * gate",
    "The silu was taken of up; it belongs to the gate.",
)
exercise.slip(
    "silu_of_the_product",
    "gate * tl.sigmoid(gate) * up",
    "gate * up * tl.sigmoid(gate * up)",
    "The silu was taken of gate · up; it is taken of the gate alone, then multiplied by up.",
)
exercise.slip(
    "sign_of_the_exponent",
    "tl.sigmoid(gate)",
    "(1 / (1 + tl.exp(gate)))",
    "The exponent has the wrong sign: sigmoid(g) = 1 / (1 + exp(-g)).",
)
exercise.slip(
    "rounds_between",
    "gate * tl.sigmoid(gate) * up",
    "(gate * tl.sigmoid(gate)).to(out_ptr.dtype.element_ty).to(tl.float32) * up",
    "silu(gate) was rounded to 16 bits before the multiplication: two roundings. Keep fp32 until "
    "the store.",
)
exercise.slip(
    "gate_in_16_bits",
    "gate = tl.load(gate_ptr + i, mask=mask).to(tl.float32)",
    "gate = tl.load(gate_ptr + i, mask=mask)",
    "The gate still has 16 bits, and tl.sigmoid and tl.exp take fp32: `.to(tl.float32)` after the "
    "load.",
)
exercise.slip(
    "up_left_out",
    "gate * tl.sigmoid(gate) * up",
    "gate * tl.sigmoid(gate)",
    "up is loaded but never multiplied in.",
)
exercise.slip(
    "no_mask",
    "mask = i < n",
    "mask = i >= 0",
    "A load or a store has no mask: in the last program it goes past the end.",
)
