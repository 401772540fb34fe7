"""What 04_flash_forward, 05_flash_backward and 08_plug_in define for teaching equals the library.

The definitions are taken from the notebooks' sources as they stand there. Each is broken here, in
the ways that the lessons warn of, to see that the comparison would notice.
"""

import functools
import math

import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels import reference
from kernels.decoding import decode_attention
from kernels.lab import check, tiles
from kernels.ladder import attention as ladder
from minift.course import examine
from minift.course.lessons.notebooks import SOURCES, read_source
from minift.course.registry import find

FORWARD, BACKWARD, PLUG_IN = "04_flash_forward", "05_flash_backward", "08_plug_in"
EPS = torch.finfo(torch.float32).eps
LOG2_E = math.log2(math.e)
# M, N, D, block: one query, one key a step, more keys than queries, blocks that do not divide
SHAPES = [(1, 1, 8, 1), (1, 7, 8, 2), (5, 9, 16, 4), (33, 33, 16, 16), (20, 50, 24, 50)]


@functools.cache
def cell(lesson, start):
    """The source of the notebook's one code cell that contains ``start``."""
    path = SOURCES / "2-kernels" / f"{lesson}.py"
    cells = [c.source for c in read_source(path).cells if c.cell_type == "code"]
    (found,) = [source for source in cells if start in source]
    return found


def defined(lesson, name, change=("", "")):
    """A function of the notebook, with one piece of its cell's text exchanged."""
    text = cell(lesson, f"def {name}(")
    assert change[0] in text
    namespace = {"torch": torch, "math": math, "F": F, "decode_attention": decode_attention}
    exec(text.replace(*change), namespace)
    return namespace[name]


def cases(size=1.0):
    """q, k, v, a gradient of the output, the block and whether it is causal."""
    for seed, (m, n, d, block) in enumerate(SHAPES):
        generator = torch.Generator().manual_seed(seed)
        q, k, v, dout = (torch.randn(r, d, generator=generator) * size for r in (m, n, n, m))
        for causal in (False, True):
            yield q, k, v, dout, block, causal


def exact(q, k, v, **options):
    """Output and LSE of one head from the library's reference, in fp64."""
    out, lse = reference.attention(*(t[None, None].double() for t in (q, k, v)), **options)
    return out[0, 0], lse[0, 0]


def bound(q, k, v, causal):
    """What rounding in fp32 can explain, as the lesson has it."""
    seen = torch.ones(len(q), len(k), dtype=torch.bool).tril(len(k) - len(q)) if causal else True
    size = (q.abs() @ k.abs().T * q.shape[1] ** -0.5 * seen).amax(1, keepdim=True)
    return 4 * EPS * (1 + size * LOG2_E) * exact(q, k, v.abs(), causal=causal)[0]


def is_attention(by_tiles):
    """Whether it is the reference's function, up to rounding; and so is the kernel."""
    for q, k, v, _, block, causal in cases():
        right, limit = exact(q, k, v, causal=causal)[0], bound(q, k, v, causal)
        if not ((by_tiles(q, k, v, block, causal) - right).abs() <= limit).all():
            return False
    return True


def is_gradient(gradients):
    """Whether dq, dk, dv are autograd's through the reference: the largest noise seen is 5e-7."""
    for q, k, v, dout, block, causal in cases():
        given = [t.double().requires_grad_() for t in (q, k, v)]
        out, lse = exact(*given, causal=causal)
        right = torch.autograd.grad(out, given, dout.double())
        mine = gradients(
            q, k, v, out.detach().float(), lse.detach().float(), dout, block, causal=causal
        )
        for a, b in zip(mine, right, strict=True):
            if not (a - b).abs().max() <= 1e-5 * max(1.0, b.abs().max()):
                return False
    return True


def test_the_loop_over_tiles_is_attention():
    assert is_attention(defined(FORWARD, "by_tiles"))


def test_the_kernel_keeps_the_bound_of_the_lesson():
    def kernel(q, k, v, block, causal):
        return kernels.attention(*(t[None, None] for t in (q, k, v)), causal=causal)[0, 0]

    assert is_attention(kernel)


@pytest.mark.parametrize("flag", [{"mended": False}, {"ahead": 1}, {"ahead": -1}, {"log2_e": 1.44}])
def test_a_switch_breaks_the_loop_over_tiles(flag):
    by_tiles = defined(FORWARD, "by_tiles")
    # hiding the last key of a single one leaves nothing to see: NaN, which is noticed, too
    assert not is_attention(functools.partial(by_tiles, **flag))


FORWARD_BUGS = [
    ("D**-0.5", "D**-1"),
    ("keys > last", "keys >= last"),
    ("+ N - M", ""),
    ("total * rescale", "total"),
    ("        high = higher\n", ""),
    ("range(0, N, block)", "range(0, N - N % block, block)"),
    ("torch.maximum(high, s.amax(1))", "s.amax(1) * 0 + 200"),
]


@pytest.mark.parametrize(("old", "new"), FORWARD_BUGS, ids=[old for old, _ in FORWARD_BUGS])
def test_a_bug_in_the_loop_over_tiles_is_noticed(old, new):
    assert not is_attention(defined(FORWARD, "by_tiles", (old, new)))


def test_the_gradients_by_tiles_are_autograds():
    assert is_gradient(defined(BACKWARD, "gradients"))


@pytest.mark.parametrize("flag", [{"use_delta": False}, {"log2_e": 1.01}])
def test_a_switch_breaks_the_gradients(flag):
    assert not is_gradient(functools.partial(defined(BACKWARD, "gradients"), **flag))


BACKWARD_BUGS = [
    ("j > i[:, None] + shift", "j > i[:, None]"),
    ("j > i[:, None] + shift", "j >= i[:, None] + shift"),
    ("scale * ds @ k[j]", "ds @ k[j]"),
    ("scale * ds.T @ q[i]", "ds.T @ q[i]"),
    ("dv[j] += p.T @ dout[i]", "dv[j] = p.T @ dout[i]"),
    ("(out * dout)", "(out * out)"),
    ("ds = p *", "ds ="),
]


@pytest.mark.parametrize(("old", "new"), BACKWARD_BUGS, ids=[new for _, new in BACKWARD_BUGS])
def test_a_bug_in_the_gradients_is_noticed(old, new):
    assert not is_gradient(defined(BACKWARD, "gradients", (old, new)))


def test_the_formula_is_attention():
    by_formula = defined(BACKWARD, "by_formula")
    for q, k, v, *_ in cases():
        assert ((by_formula(q, k, v) - exact(q, k, v)[0]).abs() <= bound(q, k, v, False)).all()


def test_decoding_in_the_model_is_attention():
    """Plugged into the model for a prompt and for single words: causal, aligned to the end."""
    decoding = defined(PLUG_IN, "decoding")
    for seed, (m, n) in enumerate([(1, 1), (3, 3), (1, 20), (4, 40)]):
        q, k, v = (torch.randn(2, 2, r, 16) for r in (m, n, n))
        right = reference.attention(*(t.double() for t in (q, k, v)), causal=True)[0]
        assert torch.allclose(decoding(q, k, v, 0.25).double(), right, atol=2e-6), seed


def test_the_model_that_looks_ahead_does():
    """One key of the future for each query, and no more."""
    looks_ahead = defined(PLUG_IN, "looks_ahead")
    q, k, v = torch.randn(3, 1, 1, 6, 8)
    out = looks_ahead(q, k, v, 8**-0.5)
    for i in range(6):
        wider = k[:, :, : i + 2], v[:, :, : i + 2]
        right = F.scaled_dot_product_attention(q[:, :, i : i + 1], *wider)
        assert torch.allclose(out[:, :, i : i + 1], right, atol=1e-6)


def test_the_function_with_a_bug_is_right_until_something_is_dropped():
    """What the lesson says of the exercise's start; and it has the bug just once."""
    exercise = find("kernels.dropout_gradient")
    p = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)).softmax(1)
    dp = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    keep = torch.ones(4, 9, dtype=torch.bool)
    assert torch.equal(exercise.start(p, dp, keep, 0.0), exercise.answer(p, dp, keep, 0.0))
    keep[:, ::2] = False
    started, right = exercise.start(p, dp, keep, 0.5), exercise.answer(p, dp, keep, 0.5)
    assert not torch.allclose(started, right, atol=1e-3)


# ---- right answers to the exercises in other words, and the solutions beside the kernels


def step_by_nan_to_num(high, total, acc, scores, v):
    new = torch.cat([high[:, None], scores], 1).max(1).values
    p = torch.exp2(scores - new[:, None]).nan_to_num(0.0)
    shrink = torch.exp2(high - new).nan_to_num(0.0)
    return new, shrink * total + p.sum(-1), shrink[:, None] * acc + torch.mm(p, v)


def merged_by_softmax(out_1, lse_1, out_2, lse_2):
    both = torch.stack([lse_1, lse_2])
    shares = both.softmax(0).nan_to_num(0.0)[..., None]
    return (shares * torch.stack([out_1, out_2])).sum(0), both.logsumexp(0)


def tiles_one_by_one(first, block_m, block_n, M, N):
    full = end = 0
    last = min(first + block_m, M) - 1
    while (full + 1) * block_n - 1 <= first + N - M:
        full += 1
    while end * block_n <= last + N - M:
        end += 1
    return full, end


def tile_by_einsum(q, k, v, dout, lse, delta, scale):
    p = (torch.einsum("id,jd->ij", q, k) * scale - lse.unsqueeze(1)).exp()
    ds = scale * (p * torch.einsum("id,jd->ij", dout, v) - p * delta.unsqueeze(1))
    return ds.mm(k), ds.T.mm(q), p.T.mm(dout)


def dropout_by_met(p, dp, keep, rate):
    met = p * keep / (1 - rate)
    return met * dp - p * (met * dp).sum(-1, keepdim=True)


def cache_by_tensors(layers, heads, kv_heads, head_dim, length, dtype):
    return layers * torch.empty(2, kv_heads, length, head_dim, dtype=dtype).nbytes


def backend_in_steps(device, dtype, head_dim, has_triton, forced):
    possible = has_triton and dtype.is_floating_point and dtype.itemsize in (2, 4)
    possible = possible and not (head_dim < 8 or head_dim > 256)
    if forced is None:
        return "torch" if device != "cuda" or not possible else "triton"
    if forced != "triton" or possible:
        return forced
    raise ValueError("triton")


def mask_by_where(mask, q, k):
    if mask is None:
        return {}
    while mask.ndim < 4:
        mask = mask[None]
    if mask.shape[1:3] == (1, 1):
        return {"key_mask": mask[:, 0, 0].broadcast_to(len(q), k.shape[2])}
    return {"bias": torch.where(mask, 0.0, -math.inf).to(q.dtype)}


OTHER_WORDS = {
    "flash_step": step_by_nan_to_num,
    "merge_parts": merged_by_softmax,
    "causal_tiles": tiles_one_by_one,
    "backward_tile": tile_by_einsum,
    "dropout_gradient": dropout_by_met,
    "cache_bytes": cache_by_tensors,
    "choose_backend": backend_in_steps,
    "mask_options": mask_by_where,
}


@pytest.mark.parametrize("name", OTHER_WORDS)
def test_a_right_answer_in_other_words_passes(name):
    outcome = examine(f"kernels.{name}", OTHER_WORDS[name])
    assert outcome.state == "right", str(outcome)


def test_parts_from_the_kernel_merge_into_the_whole():
    merge = find("kernels.merge_parts").answer
    q, k, v = torch.randn(3, 1, 1, 40, 16)
    whole, lse = kernels.attention(q, k, v, return_lse=True)
    cuts = slice(0, 13), slice(13, 40)
    parts = (kernels.attention(q, k[:, :, c], v[:, :, c], return_lse=True) for c in cuts)
    out, merged = merge(*(t[0, 0] for part in parts for t in part))
    assert torch.allclose(out, whole[0, 0], atol=2e-6)
    assert torch.allclose(merged, lse[0, 0], atol=2e-6)


def test_the_tiles_of_the_ladder_are_those_of_the_exercise():
    """How many tiles of keys each program of v5 loads."""
    count = find("kernels.causal_tiles").answer
    for m, n, block_m, block_n in [(64, 64, 16, 16), (40, 50, 32, 16), (33, 33, 16, 32)]:
        q, k, v = torch.randn(1, 1, m, 16), *torch.randn(2, 1, 1, n, 16)
        with check(trace=True) as report:
            ladder.v5(q, k, v, causal=True, tile=(block_m, block_n))
        for program in range(-(-m // block_m)):
            loads = [t for t in tiles(report, "k_ptr", (n, 16)) if t.program[0] == program]
            _, end = count(program * block_m, block_m, block_n, m, n)
            assert len(loads) == end, (m, n, program)
