"""Bugs of attention, in the order of the files: what a score is, where a program works, the kernels
and the call.

Left out, because no result can tell them from what they replace:

- ``reach`` without ``minimum(..., high)``: the tiles are the same, only counted as edges otherwise;
- ``first + BLOCK_M`` for ``minimum(first + BLOCK_M, M)``: queries beyond M see nothing more, for
  keys are cut at N, only fewer tiles go without a mask;
- padded queries with an LSE of 0 instead of infinity: their weights meet rows of dout that are 0;
- ``>`` for ``>=`` at dropout's threshold: one weight in 16 million.
"""

import math
from types import ModuleType

import torch
from attention_helpers import draw, looks_once_at_each_version, numbers_stay_finite_in_base_2
from attention_offsets import far_apart

from kernels.verification.attention import AttentionCase, check_attention
from kernels.verification.outcome import poisoned_memory
from mutants import Mutant

PACKAGE = "flash_attention"

_SCORES = {
    "log2(e) to three digits": (
        "LOG2_E = tl.constexpr(1.4426950408889634)", "LOG2_E = tl.constexpr(1.44)"
    ),
    "soft-cap not in base 2": ("(x.softcap * LOG2_E)", "x.softcap"),
    "tanh of half": ("s * (2.0 / softcap)", "s * (1.0 / softcap)"),
    "derivative of the soft-cap lost": ("ds *= 1.0 - t * t", "ds *= 1.0"),
    "1 - tanh as the derivative": ("ds *= 1.0 - t * t", "ds *= 1.0 - t"),
    "derivative at the unscaled score": (
        "t = _soft_tanh(s * scale, x.softcap)", "t = _soft_tanh(s, x.softcap)"
    ),
    "ALiBi raises what is far": ("        s -= (", "        s += ("),
    "ALiBi on one side only": (
        "tl.abs(i.to(tl.float32) + (at.N - at.M) - j.to(tl.float32))",
        "tl.maximum(i.to(tl.float32) + (at.N - at.M) - j.to(tl.float32), 0.0)",
    ),
    "ALiBi aligned to the start": ("i.to(tl.float32) + (at.N - at.M) - j", "i.to(tl.float32) - j"),
    "ALiBi with one head's slope": ("at.h * x.slopes.head", "0 * x.slopes.head"),
    "ALiBi not in base 2": ("x.slopes.head) * LOG2_E * distance", "x.slopes.head) * distance"),
    "bias transposed": (
        "row * x.bias.row + column * x.bias.column", "row * x.bias.column + column * x.bias.row"
    ),
    "bias not in base 2": ("tl.float32) * LOG2_E\n    return s", "tl.float32)\n    return s"),
    "bias of the first sequence": ("at.b * x.bias.batch", "0 * x.bias.batch"),
    "bias of the first head": ("at.h * x.bias.head", "0 * x.bias.head"),
    "bias of packed queries not shifted": ("row, column = (at.q0 + i).to", "row, column = i.to"),
    "bias of packed keys not shifted": (
        "(at.k0 + j).to(tl.int64)\n        place = here", "j.to(tl.int64)\n        place = here"
    ),
    "32-bit offsets of the bias": (
        "row, column = (at.q0 + i).to(tl.int64), (at.k0 + j).to(tl.int64)",
        "row, column = at.q0 + i, at.k0 + j",
    ),
    "key mask inverted": ("other=0) != 0)", "other=1) == 0)"),
    "key mask of the first sequence": ("at.b * x.key_mask.batch", "0 * x.key_mask.batch"),
    "mask aligned to the start": ("here = i + (at.N - at.M)", "here = i + 0"),
    "window one key too wide": ("j >= here - at.left", "j >= here - at.left - 1"),
    "< for <= on the causal edge": (
        "(j <= tl.minimum(here + at.right", "(j < tl.minimum(here + at.right"
    ),
    "tail of the keys off by one": ("here + at.right, at.N - 1)", "here + at.right, at.N)"),
    "dropout the same for every head": ("head = key * 0 + at.h.to(tl.int32)", "head = key * 0"),
    "dropout the same for every sequence": (
        "batch = key * 0 + at.b.to(tl.int32)", "batch = key * 0"
    ),
    "dropout's counter transposed": (
        "key, query, head, batch, ROUNDS", "query, key, head, batch, ROUNDS"
    ),
    "dropout not shifted for packed queries": (
        "query = at.q0 + rows[:, None]", "query = rows[:, None]"
    ),
    "dropout not shifted for packed queries in dkv": (
        "query = at.q0 + rows[None, :]", "query = rows[None, :]"
    ),
    "dropout the same for every tile of keys": (
        "four = start // 4 + tl.arange", "four = tl.arange"
    ),
    "dropout's four numbers out of order": (
        "tl.join(r0, r2), tl.join(r1, r3)", "tl.join(r0, r1), tl.join(r2, r3)"
    ),
    "dropout's four numbers out of order in dkv": ("permute(0, 2, 3, 1)", "permute(0, 3, 2, 1)"),
    "one round of Philox fewer": ("ROUNDS = tl.constexpr(7)", "ROUNDS = tl.constexpr(6)"),
    "dropout keeps what it should drop": (">= x.threshold", "< x.threshold"),
    "dropout's bits shifted too far": ("(bits >> 8)", "(bits >> 9)"),
    "dv without dropout": ("met = tl.where(keep, p * x.rescale, 0.0)", "met = p * x.rescale"),
    "dv not rescaled": ("met = tl.where(keep, p * x.rescale, 0.0)", "met = tl.where(keep, p, 0.0)"),
    "dp without dropout": ("dp = tl.where(keep, dp * x.rescale, 0.0)", "dp = dp * x.rescale"),
    "dp not rescaled": ("dp = tl.where(keep, dp * x.rescale, 0.0)", "dp = tl.where(keep, dp, 0.0)"),
    "dS from the dropped weights": (
        "return p * (dp - delta), met", "return met * (dp - delta), met"
    ),
    "hidden weights in the gradient": ("p = tl.where(visible(i, j, at, x), p, 0.0)", "p = p * 1.0"),
}  # fmt: skip

_TILES = {
    "bisection takes a tile too early": (
        "packed.first_tile + middle) <= tile", "packed.first_tile + middle) < tile"
    ),
    "bisection stops too early": ("while high - low > 1", "while high - low > 2"),
    "keys begin where queries do": (
        "k0 = tl.load(packed.cu_k + low)", "k0 = tl.load(packed.cu_q + low)"
    ),
    "keys end where queries do": (
        "tl.load(packed.cu_k + low + 1)", "tl.load(packed.cu_q + low + 1)"
    ),
    "tile not counted from its sequence": ("tile -= tl.load(packed.first_tile + low)", "tile -= 0"),
    "surplus tiles work too": ("exists = tile < tl.load", "exists = tile >= 0 * tl.load"),
    "first tile of the window left out": (
        "low = tl.maximum(first + shift - left, 0) // BLOCK",
        "low = tl.cdiv(tl.maximum(first + shift - left, 0), BLOCK)",
    ),
    "a tile before the window": (
        "first + shift - left, 0) // BLOCK", "first + shift - left - BLOCK, 0) // BLOCK"
    ),
    "last key left out": (
        "_within(end + shift + right, length)", "_within(end + shift + right - 1, length)"
    ),
    "a tile too many": (
        "_within(end + shift + right, length)", "_within(end + shift + right + BLOCK, length)"
    ),
    "full tiles begin a query too early": ("end - 1 + shift - left", "end - 2 + shift - left"),
    "full tiles begin at the first query's": ("end - 1 + shift - left", "first + shift - left"),
    "full tiles end a query too late": (
        "_within(first + 1 + shift + right", "_within(first + 2 + shift + right"
    ),
    "full tiles end at the last query's": (
        "_within(first + 1 + shift + right", "_within(end + shift + right"
    ),
    "ragged tile taken for a full one": (
        "full_high = _within(first + 1 + shift + right, length) // BLOCK",
        "full_high = tl.cdiv(_within(first + 1 + shift + right, length), BLOCK)",
    ),
    "edges behind the full tiles misplaced": ("full_high + n - before", "full_high + n"),
    "edges before the full tiles misplaced": ("n < before, low + n", "n < before, full_low + n"),
    "row offsets in 32 bits": ("row.to(tl.int64) * x.row", "row * x.row"),
    "offsets within a tile always in 32 bits": (
        "wide=True if within >= 2**31 else None", "wide=None"
    ),
    "head dim not masked on loading": ("if MASK and D != BLOCK_D:", "if MASK and D == 0:"),
    "head dim not masked in full tiles": ("    if D != BLOCK_D:\n", "    if D == 0:\n"),
    "head dim not masked on storing": (
        "inside[:, None] & (tl.arange(0, BLOCK_D) < D)", "inside[:, None] & (tl.arange(0, BLOCK_D) >= 0)"
    ),
}  # fmt: skip

_SOFTMAX = {
    "sum not rescaled": ("total * rescale + tl.sum", "total + tl.sum"),
    "maximum of a full tile only": (
        "tl.maximum(high, tl.max(s, 1) * scale)",
        "tl.max(s, 1) * scale",
    ),
    "maximum of an edge tile only": ("tl.maximum(high, tl.max(s, 1))\n", "tl.max(s, 1)\n"),
    "infinity minus infinity": ('tl.where(higher == float("-inf"), 0.0, higher)', "higher"),
}
_FORWARD = {
    "accumulator not rescaled": ("v, acc * rescale[:, None]", "v, acc"),
    "division by an empty sum": ("tl.where(total == 0.0, 1.0, total)", "total"),
    "LSE in two bases": ("high + tl.log2(total)", "high + tl.log(total)"),
    "LSE of the rows beyond M": ("total), mask=rows < M)", "total), mask=rows <= M)"),
    "GQA by % instead of //": ("kv_h = h // GROUP", "kv_h = h % GROUP"),
    "heads and batch swapped": ("b = (head // H).to", "b = (head % H).to"),
    "batch in 32 bits": ("b = (head // H).to(tl.int64)", "b = head // H"),
    "head in 32 bits": ("h = (head % H).to(tl.int64)", "h = head % H"),
    "steps in 32 bits": ("k_step = tl.cast(k.row, tl.int64) * BLOCK_N", "k_step = k.row * BLOCK_N"),
    "v walks with the stride of k": ("v_here += v_step", "v_here += k_step"),
    "last tile of keys left out": (
        "first, tl.minimum(first + BLOCK_M, M)", "first, tl.minimum(first + 1, M)"
    ),
    "edges without a mask": ("D, BLOCK_N, BLOCK_D, True,", "D, BLOCK_N, BLOCK_D, False,"),
    "sign of the scale lost": ("if NEGATE:", "if False:"),
    "sink not in the sum": ("        total += 1.0", "        total += 0.0"),
    "sink not in base 2": (
        "tl.load(sinks + h).to(tl.float32) * LOG2_E", "tl.load(sinks + h).to(tl.float32)"
    ),
    "sink of the first head": ("tl.load(sinks + h)", "tl.load(sinks)"),
    "output not rescaled for dropout": ("factor *= x.rescale", "factor *= 1.0"),
    "dropout before the sum": (
        "    if x.seed is not None:\n        p =",
        "    if x.seed is not None:\n        total -= tl.sum(tl.where(kept(rows, keys, start, at, x, False), 0.0, p), 1)\n        p =",
    ),
    "accumulator in the input's precision": (
        "v, acc * rescale[:, None]", "v, (acc * rescale[:, None]).to(v.dtype).to(tl.float32)"
    ),
    "weights through bf16": ("p.to(v.dtype)", "p.to(tl.bfloat16).to(v.dtype)"),
    "scores in tf32": (
        'tl.dot(q, tl.trans(k), input_precision="ieee")',
        'tl.dot(q, tl.trans(k), input_precision="tf32")'
    ),
}  # fmt: skip

_BACKWARD = {
    "delta dropped": ("do.to(tl.float32), 1)", "do.to(tl.float32), 1) * 0.0"),
    "delta of heads and batch swapped": (
        "row_of(out, head // H, head % H", "row_of(out, head % H, head // H"
    ),
    "gradient of the LSE subtracted": ("delta -= tl.load(dlse_ptr", "delta += tl.load(dlse_ptr"),
    "gradient of the LSE in base e": ("other=0.0) * LOG2_E\n", "other=0.0)\n"),
    "LSE of -inf not replaced": ('tl.where(lse == float("-inf"), float("inf"), lse)', "lse + 0.0"),
    "full tiles with rows that see nothing": ("MASK or x.bias is not None", "MASK"),
    "scale missing in dq": ("dq, inside, acc * softmax_scale", "dq, inside, acc"),
    "scale missing in dk": ("dk_acc * softmax_scale", "dk_acc"),
    "LSE of packed rows not shifted in dq": ("first_row + q0 + rows", "first_row + rows"),
    "LSE of packed rows not shifted in dkv": ("* rows_of_head + q0", "* rows_of_head"),
    "dq with hidden weights": (
        "lse[:, None], scale, at, x, MASK, False)", "lse[:, None], scale, at, x, False, False)"
    ),
    "dkv with hidden weights": (
        "lse[None, :], scale, at, x, MASK, True)", "lse[None, :], scale, at, x, False, True)"
    ),
    "GQA by % in dq": ("kv_h = h // GROUP", "kv_h = h % GROUP"),
    "dkv takes the group's first head again": ("h = kv_h * GROUP + g", "h = kv_h * GROUP"),
    "dkv forgets the group's other heads": ("for g in range(GROUP)", "for g in range(1)"),
    "dkv takes heads that are not its group's": ("h = kv_h * GROUP + g", "h = g * kv_heads + kv_h"),
    "window mirrored in dkv": ("M - N, right, left, M", "M - N, left, right, M"),
    "dkv not aligned to the end": ("M - N, right, left, M", "0, right, left, M"),
    "dropout of the first keys in every tile of dkv": (
        "rows, keys, first_key, delta", "rows, keys, 0, delta"
    ),
    "soft-cap forgotten in dkv alone": (
        "delta[None, :], at, x, True)\n    ds = softcap_gradient(ds, s, scale, x)", "delta[None, :], at, x, True)"
    ),
    "dv from the weights before dropout": (
        "tl.dot(met.to(do.dtype), do, dv", "tl.dot(p.to(do.dtype), do, dv"
    ),
    "dS through bf16": ("tl.dot(ds.to(k.dtype), k", "tl.dot(ds.to(tl.bfloat16).to(k.dtype), k"),
    "dk replaced, not added to": (
        'tl.dot(ds.to(q.dtype), q, dk, input', 'tl.dot(ds.to(q.dtype), q, 0.0 * dk, input'
    ),
    "dout walks with the stride of q": ("do_here += do_step", "do_here += q_step"),
    "batch of dkv in 32 bits": ("b = (head // kv_heads).to(tl.int64)", "b = head // kv_heads"),
}  # fmt: skip

_BIAS_GRADIENT = {
    "bias gradient of one sequence": ("range(heads * batches)", "range(heads)"),
    "bias gradient of one head": ("range(heads * batches)", "range(batches)"),
    "bias gradient replaced, not added to": ("total += ds", "total = ds"),
    "bias gradient times the scale": ("total += ds", "total += ds * scale"),
    "bias gradient with hidden weights": ("scale, mine, x, MASK, False)", "scale, mine, x, False, False)"),
    "bias gradient of packed keys not shifted": (
        "place += (at.k0 + start)", "place += (0 * at.k0 + start)"
    ),
    "bias gradient of packed queries not shifted": (
        "at.h, at.q0 + first)", "at.h, first)"
    ),
    "GQA by % in the bias gradient": ("row_of(v, b, h // GROUP", "row_of(v, b, h % GROUP"),
}  # fmt: skip

_CALL = {
    "window mirrored": ("self.left, self.right", "self.right, self.left"),
    "scale off by 0.2 %": ("abs(problem.scale) * LOG2_E", "1.002 * abs(problem.scale) * LOG2_E"),
    "threshold of half the dropout": ("RANDOM_BITS = 24", "RANDOM_BITS = 23"),
    "dropout rescaled by 1 / p": ("1 / (1 - self.dropout_p)", "1 / self.dropout_p"),
    "broken tiles not counted": ("(cu.diff() + block - 1) // block", "cu.diff() // block"),
    "tiles of queries where keys are due": (
        "self.cu_seqlens_k if by_keys else self.cu_seqlens_q", "self.cu_seqlens_q"
    ),
    "sign of the sinks' gradient": ("return -(weight * delta)", "return (weight * delta)"),
    "sinks' gradient not in base 2": ("[:, None] * LOG2_E.value - lse", "[:, None] - lse"),
    "sinks' gradient where nothing is seen": (
        "weight = weight.masked_fill(lse == -torch.inf, 0.0)", "weight = weight * 1.0"
    ),
}  # fmt: skip

_ARGUMENTS = {
    "looks again at what has changed once": (
        "answered[question] = tensor._version", "answered[question] = 0"
    ),
    "never looks again": ("answered.get(question) == tensor._version", "question in answered"),
    "no room for log2(e)": ("torch.finfo(torch.float32).max / 2", "torch.finfo(torch.float32).max"),
}  # fmt: skip

_BUGS = {
    "scores.py": _SCORES,
    "tiles.py": _TILES,
    "softmax.py": _SOFTMAX,
    "forward.py": _FORWARD,
    "backward.py": _BACKWARD,
    "bias_gradient.py": _BIAS_GRADIENT,
    "call.py": _CALL,
    "arguments.py": _ARGUMENTS,
}
MUTANTS = {name: Mutant(file, *bug) for file, bugs in _BUGS.items() for name, bug in bugs.items()}

CASES = [
    # The causal edge lies just behind a tile's border: 48 - 18 = 14 modulo 16.
    AttentionCase(18, 48, 8, causal=True, heads=2, kv_heads=1, layout="padded", seed=1),
    # Everything at once, two sequences, two heads of each group.
    AttentionCase(
        *(9, 20, 8), heads=4, kv_heads=2, batch=2, softcap=2.0, alibi=True, bias="hmn", sinks=True,
        key_mask="holes", lse_gradient=True, scale=-0.4, seed=2,
    ),
    # One key more than a tile; the last sequence has keys, so a surplus tile would read them.
    AttentionCase(
        d=24, heads=1, causal=True, packed=((0, 3), (5, 17), (20, 22), (3, 0), (1, 2)), seed=3
    ),
    AttentionCase(d=8, packed=((3, 20), (4, 2)), bias="mn", dropout_p=0.3, seed=4),
    # The window's left edge: 15 + 17 - 31 = 1.
    AttentionCase(17, 34, 8, window=32, heads=1, layout="interleaved", seed=5),
    AttentionCase(18, 60, 8, heads=1, window=9, seed=6),
    AttentionCase(5, 5, 8, heads=2, kv_heads=2, batch=2, dropout_p=0.5, bias="bhmn", seed=7),
    # Several full tiles of queries, in tensors that lie differently.
    AttentionCase(48, 5, 8, heads=1, seed=8),
    # Nearly equal weights over many tiles, where rounding the accumulator adds up.
    AttentionCase(
        40, 200, 32, torch.bfloat16, heads=1, spread=0.5, backward=False, seed=9
    ),
    # Scores of hundreds, where exp2 overflows unless the maximum is over all tiles so far.
    AttentionCase(5, 40, 64, heads=1, spread=20.0, backward=False, layout="transposed", seed=10),
]  # fmt: skip


def survives(package: ModuleType) -> bool:
    return (
        all(check_attention(case, package).passed for case in CASES)
        and _blind_rows_are_zero(package)
        and looks_once_at_each_version(package.arguments)
        and numbers_stay_finite_in_base_2(package.arguments)
        and all(far_apart(package, what) for what in ("batches", "heads", "rows of a tile", "bias"))
    )


def _blind_rows_are_zero(package: ModuleType) -> bool:
    """A bias of -inf hides every key of two queries, over a full tile; the sink of one head is
    -inf too. Nothing is NaN, and those queries have no part in any gradient."""
    q, k, v = draw(18, 20, 8)
    bias = torch.zeros(1, 1, 18, 20)
    bias[:, :, 1:3] = -math.inf
    problem = package.call.Problem(scale=0.3, bias=bias, sinks=torch.tensor([-math.inf, 0.5]))
    layouts = dict.fromkeys(("forward", "dq", "dkv", "dbias"), package.layouts.Layout(16, 16, 4, 1))
    with poisoned_memory():
        out, lse = package.call.forward(q, k, v, problem, layouts)
        found = package.call.backward(
            torch.ones_like(out), None, q, k, v, out, lse, problem, layouts
        )
    dq, _dk, _dv, dbias, _dsinks = found
    blind = [t[:, :, 1:3] for t in (out, dq, dbias)]
    return all((t == 0).all() for t in blind) and all(t.isfinite().all() for t in (out, *found))
