"""kernels.stochastic_round: fp32 to bf16, up or down at random and right on average."""

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

HALF = 2.0**-8  # half of the distance between 1 and the next bf16


def of(x: Tensor, noise: Tensor, block: int) -> Inputs:
    return {"x": x, "noise": noise.to(torch.int32), "block": block}


def random(n: int, seed: int) -> Tensor:
    return torch.randint(0, 2**16, (n,), generator=torch.Generator().manual_seed(seed))


def exact() -> Iterator[Inputs]:
    yield of(torch.tensor([1.0, 1.5, -3.0, 0.0]), torch.tensor([0, 1, 40_000, 65_535]), 4)


def near_one() -> Iterator[Inputs]:
    noise = torch.tensor([0, 32_767, 32_768, 65_535])
    yield of(torch.full((4,), 1 + HALF), noise, 4)
    yield of(torch.full((4,), 1 + HALF / 2), torch.tensor([0, 32_768, 49_151, 49_152]), 4)
    yield of(torch.full((4,), -1 - 1.5 * HALF), noise, 4)


def ragged() -> Iterator[Inputs]:
    for seed, (n, block) in enumerate([(3, 4), (1, 8), (50, 16), (133, 32)]):
        scale = torch.tensor([1e-30, 1.0, 300.0, 1e30])[seed]
        yield of(scale * normal(n, seed=seed), random(n, seed), block)


def every_noise() -> Iterator[Inputs]:
    for x in (1 + HALF / 4, -0.3, 1000.123):
        yield of(torch.full((2**16,), x), torch.arange(2**16), 4096)


def run(kernel: Any, x: Tensor, noise: Tensor, block: int) -> dict[str, Any]:
    """What is stored (compared in fp32, where bf16 is exact), and its mean."""
    out = torch.full(x.shape, float("nan"), dtype=torch.bfloat16)
    launch(kernel, triton.cdiv(len(x), block), x, noise, out, len(x), BLOCK=block)
    return {"out": out.float(), "mean": out.double().mean().item()}


def real() -> Iterator[Inputs]:
    x = torch.empty(8)
    args = (x, x.int(), x.bfloat16(), 8)
    yield {"args": args, "constants": {"BLOCK": 1024}}


exercise = Exercise(
    "kernels.stochastic_round",
    "Stochastic rounding to bf16",
    apply=run,
    properties=(
        Part("leaves alone what bf16 has", exact, "The lower 16 bits are 0: no carry.", ulps=0),
        Part("rounds between 1 and its neighbours", near_one, "When is there a carry?", ulps=0),
        Part("rounds any number, of any count", ragged, "Mask and bits.", ulps=0),
        Part("is right on average over all noises", every_noise, "See the noise.", part="mean"),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "`x.to(tl.uint32, bitcast=True)` are the bits of x as a whole number; `.to(tl.float32)` "
        "without bitcast would convert the value.",
        "Add the noise to the bits. If the lower 16 bits overflow, the carry makes the upper ones "
        "larger by 1: the next bf16, away from 0.",
        "The upper 16 bits: `>> 16`, then `.to(tl.uint16)`, then `.to(tl.bfloat16, bitcast=True)`.",
    ),
)


@exercise.stub
@triton.jit
def stochastic_round(x_ptr, noise_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[i] = x[i] in bf16, for i < n: the next bf16 away from 0, or the next towards 0.

    x is fp32, out is bf16, noise holds whole numbers from 0 to 65535 (int32). A bf16 is the upper
    half of an fp32. x goes away from 0 when its lower 16 bits plus the noise reach 2¹⁶.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(x_ptr, noise_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n)
    noise = tl.load(noise_ptr + i, mask=i < n).to(tl.uint32)
    bits = x.to(tl.uint32, bitcast=True) + noise
    out = (bits >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    tl.store(out_ptr + i, out, mask=i < n)


@exercise.reference
def by_neighbours(x: Tensor, noise: Tensor, block: int) -> dict[str, Any]:
    near = x.bfloat16()
    too_far = near.double().abs() > x.double().abs()
    lower = torch.where(too_far, torch.nextafter(near, torch.zeros_like(near)), near)
    upper = torch.nextafter(lower, torch.full_like(near, torch.inf).copysign(near))
    share = (x.double() - lower.double()) / (upper.double() - lower.double())
    out = torch.where(noise / 2**16 >= 1 - share, upper, lower)
    return {"out": out.float(), "mean": x.double().mean().item()}


exercise.slip(
    "to_nearest",
    "(bits >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)",
    "x.to(tl.bfloat16)",
    "That rounds to the nearest, always: the noise has no say.",
)
exercise.slip(
    "cut_off",
    "bitcast=True) + noise",
    "bitcast=True)",
    "The lower bits are cut off, always towards 0: add the noise first.",
)
exercise.slip(
    "half_a_place_too_far",
    "bitcast=True) + noise",
    "bitcast=True) + noise + 0x8000",
    "Half a place was added besides the noise: that is right for the nearest, and too much here.",
)
exercise.slip(
    "noise_of_fifteen_bits",
    "bitcast=True) + noise",
    "bitcast=True) + (noise >> 1)",
    "The noise reaches only half of the place: it must go from 0 to 65535.",
)
exercise.slip(
    "noise_on_the_value",
    "x.to(tl.uint32, bitcast=True) + noise",
    "(x + noise).to(tl.uint32, bitcast=True)",
    "The noise was added to the value: add it to the bits.",
)
exercise.slip(
    "value_for_bits",
    "x.to(tl.uint32, bitcast=True)",
    "x.to(tl.uint32)",
    "The value was converted to a whole number: bitcast=True takes the bits as they are.",
)
exercise.slip(
    "no_mask",
    "tl.store(out_ptr + i, out, mask=i < n)",
    "tl.store(out_ptr + i, out)",
    "The store has no mask: in the last program it goes past the end.",
)
