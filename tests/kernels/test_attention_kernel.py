"""kernels.attention against fp64, on a seeded grid of ragged shapes, layouts and dtypes.

The bounds are in ``kernels/verification/attention.py``. Measured on 180 cases of this grid, worst
error as a share of its bound: 0.40 in fp32, 0.60 in fp16, 0.58 in bf16. ``test_mutants.py`` shows
what the bounds catch.
"""

import random

import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels import reference
from kernels.flash_attention import CONFIGS
from kernels.lab import check, compile_for
from kernels.lab.compiler import example
from kernels.verification.attention import (
    LAYOUTS,
    AttentionCase,
    check_attention,
    compile_attention,
    laid_out,
)
from kernels.verification.outcome import poisoned_memory

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LENGTHS = (1, 2, 15, 16, 17, 31, 33, 64, 65, 100, 133)
HEAD_DIMS = (8, 16, 24, 40, 64, 80, 128, 256)


def grid(dtype: torch.dtype, count: int) -> list[AttentionCase]:
    """Cases drawn so that every length, head dim, layout and option occurs early."""
    rng = random.Random(str(dtype))
    ms, ns, ds = (list(values) * count for values in (LENGTHS, LENGTHS, HEAD_DIMS))
    for values in (ms, ns, ds):
        for start in range(0, len(values), 8):
            part = values[start : start + 8]
            rng.shuffle(part)
            values[start : start + 8] = part
    cases = []
    for i in range(count):
        kv_heads, group = rng.choice([(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)])
        cases.append(
            AttentionCase(
                m=ms[i],
                n=ns[i + 3],
                d=ds[i],
                dtype=dtype,
                causal=i % 2 == 0,
                heads=kv_heads * group,
                kv_heads=kv_heads,
                batch=1 + (i % 4 == 0),
                layout=LAYOUTS[i % len(LAYOUTS)],
                scale=rng.choice([None, None, None, 0.5, -0.3]),
                spread=rng.choice([0.5, 1.0, 1.0, 3.0]),
                config=rng.choice([(32, 32), (32, 32), (16, 32), (32, 16)]),
                seed=i,
            )
        )
    return cases


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("part", range(4))
def test_ragged_grid(dtype: str, part: int) -> None:
    for case in grid(DTYPES[dtype], 32)[part::4]:
        outcome = check_attention(case)
        assert outcome.ratio <= 1, (case, outcome.ratio)
        assert outcome.report.ok, case
        assert outcome.bytes_moved == outcome.bytes_needed, case


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [16, 64, 256])
def test_the_shipped_layouts(dtype: str, d: int) -> None:
    """Tiles as launched on a GPU, over more than one tile of queries and of keys."""
    outcome = check_attention(
        AttentionCase(150, 140, d, DTYPES[dtype], causal=True, heads=1, config=None)
    )
    assert outcome.passed, outcome


@pytest.mark.parametrize("m", LENGTHS)
def test_every_alignment_of_the_causal_edge(m: int) -> None:
    """Each length against tiles of 16: edges on, just before and just behind a tile's border."""
    for n in (1, 15, 16, 17, 33):
        outcome = check_attention(
            AttentionCase(m, n, 8, causal=True, heads=1, config=(16, 16), seed=n)
        )
        assert outcome.passed, (m, n, outcome)


def draw(m: int, n: int, d: int = 16, heads: int = 2, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(m * 1000 + n)
    shapes = [(1, heads, m, d), (1, heads, n, d), (1, heads, n, d)]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


# ---- the public function


@pytest.mark.parametrize("causal", [False, True])
def test_equal_to_pytorch(causal: bool) -> None:
    """PyTorch aligns is_causal to the start, which is the same for M = N."""
    q, k, v = draw(40, 40)
    out = kernels.attention(q, k, v, causal=causal)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(out, theirs, rtol=0, atol=2e-6)  # measured: 3e-7


def test_lse_in_natural_logarithm() -> None:
    q, k, v = draw(20, 33)
    out, lse = kernels.attention(q, k, v, causal=True, scale=0.3, return_lse=True)
    _, exact = reference.attention(q.double(), k.double(), v.double(), causal=True, scale=0.3)
    assert lse.shape == (1, 2, 20) and lse.dtype == torch.float32
    torch.testing.assert_close(lse.double(), exact, rtol=0, atol=4e-6)  # measured: 4e-7
    assert torch.equal(out, kernels.attention(q, k, v, causal=True, scale=0.3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_queries_that_see_no_key_give_zeros(dtype: str) -> None:
    q, k, v = draw(40, 7, dtype=DTYPES[dtype])
    with poisoned_memory():
        out, lse = kernels.attention(q, k, v, causal=True, return_lse=True)
    assert (out[:, :, :33] == 0).all() and (lse[:, :, :33] == -torch.inf).all()
    assert (out[:, :, 33:] != 0).any(-1).all() and lse[:, :, 33:].isfinite().all()


def test_the_result_has_the_layout_of_q() -> None:
    """So that (B, T, H, D) viewed as (B, H, T, D) comes back without a copy."""
    q, k, v = (laid_out(t, torch.float32, "transposed") for t in draw(20, 20))
    assert kernels.attention(q, k, v).transpose(1, 2).is_contiguous()
    expanded = q[:, :1].expand(1, 4, 20, 16)
    assert kernels.attention(expanded, k, v).is_contiguous()


def test_same_input_same_bits() -> None:
    q, k, v = draw(65, 65)
    assert torch.equal(kernels.attention(q, k, v), kernels.attention(q, k, v))


def test_scale_zero_and_negative() -> None:
    q, k, v = draw(33, 20)
    uniform = v.double().mean(2, keepdim=True).expand(1, 2, 33, 16)
    out = kernels.attention(q, k, v, scale=0.0).double()
    torch.testing.assert_close(out, uniform, rtol=0, atol=1e-6)
    negative = kernels.attention(q, k, v, scale=-0.25)
    assert torch.equal(negative, kernels.attention(-q, k, v, scale=0.25))


def test_large_scores_do_not_overflow() -> None:
    """Scores of ±10,000: exp(s) alone is infinite; the maximum is subtracted first."""
    q, k, v = draw(20, 20)
    out = kernels.attention(q * 100, k * 100, v, scale=1.0)
    exact, _ = reference.attention(q.double() * 100, k.double() * 100, v.double(), scale=1.0)
    assert (out - exact).abs().max() < 0.02


# ---- NaN and infinity


def test_nan_reaches_what_depends_on_it_and_nothing_else() -> None:
    q, k, v = draw(40, 40)
    clean = kernels.attention(q, k, v, causal=True)
    poisoned = q.clone()
    poisoned[0, 0, 5, 3] = torch.nan
    out = kernels.attention(poisoned, k, v, causal=True)
    assert out[0, 0, 5].isnan().all()
    rest = torch.ones(1, 2, 40, dtype=torch.bool)
    rest[0, 0, 5] = False
    assert torch.equal(out[rest], clean[rest])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_infinity_in_a_key_reach_the_queries_that_see_it(bad: float) -> None:
    """An infinite key gives scores of ±inf: NaN where +inf, no weight where -inf, as in fp64."""
    q, k, v = draw(40, 40)
    clean = kernels.attention(q, k, v, causal=True)
    k[0, 1, 20, 2] = bad
    out = kernels.attention(q, k, v, causal=True)
    exact, _ = reference.attention(q.double(), k.double(), v.double(), causal=True)
    assert torch.equal(out.isnan(), exact.isnan()) and out[0, 1, 20:].isnan().any()
    assert torch.equal(out[0, 1, :20], clean[0, 1, :20]) and torch.equal(out[0, 0], clean[0, 0])


def test_nan_in_a_value_reaches_every_query_that_sees_it() -> None:
    """0 · NaN is NaN, so a query in the same tile that must not see the key may get it too, as in
    PyTorch, where every query does; a query in an earlier tile does not."""
    q, k, v = draw(150, 150, heads=1)
    poisoned = v.clone()
    poisoned[0, 0, 140, 3] = torch.nan
    out = kernels.attention(q, k, poisoned, causal=True)
    assert out[0, 0, 140:, 3].isnan().all()
    assert out[..., :3].isfinite().all() and out[..., 4:].isfinite().all()
    assert out[0, 0, :64].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_around_the_tensors_does_not_matter(dtype: str) -> None:
    """NaN before, after and between the rows of q, k and v; D = 24 is padded to 32 inside."""
    tensors = draw(33, 21, 24, dtype=DTYPES[dtype])
    want = kernels.attention(*tensors)
    got = kernels.attention(*(laid_out(t, t.dtype, "padded") for t in tensors))
    assert torch.equal(got, want)


# ---- input that does not fit: one line, before any launch

WRONG = {
    "three dimensions": ({"q": (4, 8, 16)}, {}, ValueError, "q: expected 4 dimensions"),
    "v unlike k": ({"v": (1, 2, 9, 16)}, {}, ValueError, "v: expected the shape of k"),
    "batch": ({"k": (2, 2, 8, 16), "v": (2, 2, 8, 16)}, {}, ValueError, "k: expected batch 1"),
    "head_dim": ({"k": (1, 2, 8, 8), "v": (1, 2, 8, 8)}, {}, ValueError, "head_dim 16 as in q"),
    "heads": ({"k": (1, 3, 8, 16), "v": (1, 3, 8, 16)}, {}, ValueError, "must divide.*3 and 4"),
    "small D": (dict.fromkeys("qkv", (1, 4, 8, 4)), {}, ValueError, "8 to 256, got 4"),
    "large D": (dict.fromkeys("qkv", (1, 4, 8, 264)), {}, ValueError, "8 to 256, got 264"),
    "empty": ({"k": (1, 2, 0, 16), "v": (1, 2, 0, 16)}, {}, ValueError, "k: no dimension may be"),
    "scale": ({}, {"scale": float("nan")}, ValueError, "scale: expected a finite number"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_shapes_that_do_not_fit(name: str) -> None:
    shapes, options, error, match = WRONG[name]
    base = {"q": (1, 4, 8, 16), "k": (1, 2, 8, 16), "v": (1, 2, 8, 16)}
    tensors = {key: torch.zeros(shape) for key, shape in (base | shapes).items()}
    with check() as report, pytest.raises(error, match=match) as caught:
        kernels.attention(**tensors, **options)
    assert "\n" not in str(caught.value) and report.programs == 0


def test_dtypes_devices_and_gradients_that_do_not_fit() -> None:
    q = torch.zeros(1, 1, 8, 16)
    with pytest.raises(TypeError, match=r"k: expected q, k, v all float32.*torch.float16 for k"):
        kernels.attention(q, q.half(), q)
    with pytest.raises(TypeError, match=r"q: expected.*torch\.float64"):
        kernels.attention(q.double(), q.double(), q.double())
    with pytest.raises(ValueError, match=r"v: expected.*one CPU or CUDA device.*meta for v"):
        kernels.attention(q, q, q.to("meta"))
    with pytest.raises(TypeError, match="q: expected a tensor, got list"):
        kernels.attention([1.0], q, q)
    with pytest.raises(ValueError, match=r"no backward pass.*torch.no_grad"):
        kernels.attention(q.clone().requires_grad_(), q, q)
    with torch.no_grad():
        kernels.attention(q.clone().requires_grad_(), q, q)


# ---- machine code


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_compiled_for_every_architecture(arch: str, dtype: str) -> None:
    compiled = compile_attention(DTYPES[dtype], 64, arch)
    assert compiled.registers > 0 and compiled.blocks_per_multiprocessor >= 1
    assert compiled.spills_in_loop == 0
    unmasked, masked = compiled.main_loops
    assert unmasked.mix["mma"] > 0 and unmasked.mix["mma"] == masked.mix["mma"]
    assert sum(unmasked.mix.values()) < sum(masked.mix.values())
    # One exponential a score and one a row: BLOCK_M · (BLOCK_N + 1), over the threads that work.
    config = CONFIGS[2, 64]
    threads = config.num_warps * (64 if arch == "gfx942" else 32)
    exponentials = config.block_m * (config.block_n + 1) // threads
    assert unmasked.mix["exp2"] <= exponentials + 4
    if arch != "gfx942":
        assert "ex2.approx" in compiled.ptx
        kept_full = {op for op in compiled.opcodes("global") if not op.endswith(".128")}
        assert kept_full == set(), "a narrow global load or store"


def test_fp32_keeps_full_precision() -> None:
    """No tf32 anywhere: fp32 means 24 bits."""
    compiled = compile_attention(torch.float32, 64, "sm_80")
    assert "tf32" not in compiled.ptx and compiled.opcodes("mma").total() == 0
    assert compiled.spills_in_loop == 0


def test_shapes_do_not_recompile() -> None:
    """Lengths and head counts are not specialised on: one binary serves every length."""
    from kernels.flash_attention import _forward

    q = example((1, 2, 1024, 64), torch.float16)
    strides = q.stride() * 4
    blocks = {"D": 64, "BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_D": 64}
    options = {**blocks, "CAUSAL": True, "NEGATE": False}
    texts = {
        compile_for(_forward, q, q, q, q, None, *strides, 0.1, 2, 1, m, n, **options).ttir
        for m, n in [(1024, 1024), (1, 1), (17, 33)]
    }
    assert len(texts) == 1
