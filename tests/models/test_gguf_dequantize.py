"""Dequantising, to the last bit as the ``gguf`` package does it."""

import gguf as reference
import numpy as np
import pytest
import torch

from minift.models.gguf.dequantize import AT_ONCE, READERS, dequantize
from minift.models.gguf.tensor_types import OTHERS, SUPPORTED

NUMBERS = {kind.name: number for number, kind in SUPPORTED.items()}
# Where a block has numbers in half precision: random bytes there would give infinities.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}  # fmt: skip


def random_blocks(name, count, seed=0):
    """Random bytes ``(count, size)``; scales are any finite half, subnormal ones and −0 too."""
    kind, rng = SUPPORTED[NUMBERS[name]], np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, kind.size), dtype=np.uint8)
    for place in HALVES.get(name, []):
        bits = rng.integers(0, 2**16, count, dtype=np.uint16)
        bits[:4] = np.array([0, 0x8000, 1, 0x7BFF])[:count]  # 0, −0, the smallest, the largest
        bits[(bits & 0x7C00) == 0x7C00] = 0x3C00
        blocks[:, place : place + 2] = bits[:, None].view(np.uint8)
    return blocks


def bits(values):
    """The floats as integers, every NaN as the same."""
    values = torch.as_tensor(values).clone()
    return torch.where(values.isnan(), torch.nan, values).view(torch.int32)


@pytest.mark.parametrize("count", [1, 5, 2500])
@pytest.mark.parametrize("name", [name for name in READERS if name != "Q8_K"])
def test_every_bit(name, count):
    blocks = random_blocks(name, count, seed=count)
    kind = SUPPORTED[NUMBERS[name]]
    number = reference.GGMLQuantizationType(NUMBERS[name])
    if name in ("F32", "F16"):  # the package takes these as numbers, not as bytes
        numbers = blocks.view(np.float32 if name == "F32" else np.float16)
        wanted = reference.dequantize(
            numbers.astype(np.float32), reference.GGMLQuantizationType.F32
        )
    else:
        wanted = reference.dequantize(blocks, number)
    ours = dequantize(torch.from_numpy(blocks.ravel()), kind)
    assert ours.dtype == torch.float32
    assert torch.equal(bits(ours), bits(wanted.ravel()))


def test_q8_k_one_block_at_a_time():
    """llama.cpp makes these blocks while it computes and stores none; the package has no reader."""
    scale = torch.tensor([0.1, -3.0, 0.0, 1e-30])
    rng = np.random.default_rng(0)
    q = rng.integers(-128, 128, (4, 256), dtype=np.int8)
    sums = rng.integers(0, 256, (4, 32), dtype=np.uint8)
    blocks = np.concatenate([scale.numpy()[:, None].view(np.uint8), q.view(np.uint8), sums], axis=1)
    wanted = [[scale[row] * int(q[row, i]) for i in range(256)] for row in range(4)]
    ours = dequantize(torch.from_numpy(blocks.ravel()), SUPPORTED[15])
    assert torch.equal(ours.view(4, 256), torch.tensor(wanted))


@pytest.mark.parametrize("name", ["F16", "Q4_1", "Q6_K"])
def test_piece_by_piece_is_all_at_once(name):
    """More weights than are worked on at a time, and a last piece that is not full."""
    kind = SUPPORTED[NUMBERS[name]]
    blocks = torch.from_numpy(random_blocks(name, AT_ONCE // kind.weights * 2 + 3))
    assert torch.equal(
        bits(dequantize(blocks.ravel(), kind)), bits(READERS[name](blocks.clone()).flatten())
    )


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16"])
def test_what_was_quantised_comes_back(name):
    """The package quantises; the error is at most half a step of the block's grid, and a bit."""
    torch.manual_seed(0)
    rows = torch.randn(40, 64) * torch.logspace(-3, 3, 40)[:, None]
    number = reference.GGMLQuantizationType[name]
    packed = reference.quantize(rows.numpy(), number)
    ours = dequantize(torch.from_numpy(packed.ravel()), SUPPORTED[NUMBERS[name]]).view(40, 64)
    blocks = rows.view(40, -1, 32)
    largest = blocks.abs().amax(-1, keepdim=True)
    spread = blocks.amax(-1, keepdim=True) - blocks.amin(-1, keepdim=True)
    step = {
        "Q4_0": largest / 8, "Q5_0": largest / 16, "Q8_0": largest / 127,
        "Q4_1": spread / 15, "Q5_1": spread / 31, "BF16": largest / 128,
    }[name]  # fmt: skip
    error = (ours.view_as(blocks) - blocks).abs()
    limit = 1.0 if name in ("Q4_0", "Q5_0") else 0.5  # their grid ends one step before +largest
    assert bool((error <= limit * step + 2e-3 * largest).all())
    assert float(error.max()) > 0


def test_the_table_is_the_references():
    sizes = {int(kind): size for kind, size in reference.GGML_QUANT_SIZES.items()}
    for number, kind in SUPPORTED.items():
        assert reference.GGMLQuantizationType(number).name == kind.name
        assert sizes[number] == (kind.weights, kind.size)
    for number, name in OTHERS.items():
        assert reference.GGMLQuantizationType(number).name == name
    assert set(sizes) == set(SUPPORTED) | set(OTHERS)
    assert {kind.name for kind in SUPPORTED.values()} == set(READERS)
