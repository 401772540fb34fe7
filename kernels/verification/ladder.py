"""The teaching ladder: cases, the bounds of their errors, the bytes that each version moves.

A version is held to its own traffic: a ladder that says "two passes instead of three" is wrong if
the kernel does not do that. ``python -m kernels verify ladder`` runs a part of the cases, the tests
all of them. Nothing of the ladder is shipped: no layouts are held to targets.
"""

import math
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

import kernels.ladder
from kernels import reference
from kernels.lab.memory import Report, check
from kernels.ladder.attention import TILES as ATTENTION_TILES
from kernels.ladder.matmul import TILES
from kernels.verification.adamw_bounds import adamw_error
from kernels.verification.attention_bounds import (
    EPS32,
    LOG2_E,
    Bound,
    error,
    reference_and_bounds,
)
from kernels.verification.attention_cases import AttentionCase, Inputs
from kernels.verification.outcome import Outcome, Shipped, poisoned_memory, worst

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# By version: how often a softmax moves its matrix; how many bytes AdamW moves a parameter.
SOFTMAX_PASSES = {"v1": 4, "v2": 3, "v3": 2, "v4": 2, "v5": 2}
ADAMW_BYTES = {"v1": 56, "v2": 28, "v3": 28, "v4": 28}


@dataclass(frozen=True)
class LadderCase:
    """One call of one version; what ``shape`` means depends on the operation.

    vector_add: (n,). softmax: (rows, columns). matmul: (M, N, K). attention: (heads, M, N, D).
    adamw: the lengths of the tensors.
    """

    operation: str
    version: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    options: dict[str, Any] = field(default_factory=dict)  # of the call
    spread: float = 1.0  # standard deviation of the inputs
    strided: bool = False  # views instead of contiguous tensors
    seed: int = 0

    def __str__(self) -> str:
        name = f"{self.operation}.{self.version}-{'x'.join(map(str, self.shape))}"
        return f"{name}-{str(self.dtype).removeprefix('torch.')}"

    def normal(self, *shape: int, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(100 * self.seed + seed)
        values = torch.randn(shape, generator=generator) * self.spread
        return values.to(self.dtype)


def check_ladder(
    case: LadderCase, package: ModuleType = kernels.ladder, *, strict: bool = True
) -> Outcome:
    """Run a case and measure it; ``package`` may be a copy of :mod:`kernels.ladder`.

    Raises, if ``strict``, what :func:`kernels.lab.check` raises for lanes out of bounds and races.
    """
    module = import_module(f"{package.__name__}.{case.operation}")
    function = getattr(module, case.version)
    with poisoned_memory(), check(strict=strict) as report:
        ratio, needed = _MEASURES[case.operation](case, function)
    return Outcome(ratio, report, _moved(report), needed or _moved(report))


def _moved(report: Report) -> int:
    """Bytes of tensors; the tables of addresses are no part of what an operation has to move."""
    tables = ("table", "pieces", "constants")
    return sum(t.loaded + t.stored for name, t in report.traffic.items() if name not in tables)


# Each of the following returns the error as a share of its bound, and the bytes that the version
# is to move (0: not held).


def _vector_add(case: LadderCase, function: Any) -> tuple[float, int]:
    """Addition rounds once, so nothing but the same bits will do."""
    x, y = (case.normal(*case.shape, seed=seed) for seed in (0, 1))
    out = function(x, y, **case.options)
    return 0.0 if torch.equal(out, x + y) else math.inf, 3 * x.nbytes


def _softmax(case: LadderCase, function: Any) -> tuple[float, int]:
    """|err| ≤ 4·eps32·(1 + (max − x)·log₂e)·p, and half a place of the output's dtype."""
    rows, columns = case.shape
    x = case.normal(rows, columns)
    if case.strided:
        x = torch.full((rows, columns + 5), torch.nan, dtype=x.dtype)[:, 2 : columns + 2].copy_(x)
    out = function(x, **case.options)
    exact = x.double().softmax(1)
    distance = x.double().amax(1, keepdim=True) - x.double()
    bound = 4 * EPS32 * (1 + distance * LOG2_E) * exact + 2.0**-126
    needed = SOFTMAX_PASSES[case.version] * rows * columns * x.itemsize
    return _ratio(out, exact, bound), needed


def _matmul(case: LadderCase, function: Any) -> tuple[float, int]:
    """|err| ≤ eps32·(2 + √K)·|a|·|b|, and half a place of the output's dtype.

    v2 sums in the dtype of the inputs, and is allowed one rounding of that a step.
    """
    m, n, k = case.shape
    a, b = case.normal(m, k), case.normal(n, k, seed=1).T
    if case.strided:
        a, b = case.normal(k, 2 * m)[:, ::2].T, case.normal(2 * k, n + 3, seed=1)[::2, 1 : n + 1]
    options = dict(case.options)
    bias = case.normal(n, seed=2) if options.pop("bias", False) else None
    out = function(a, b, **options) if bias is None else function(a, b, bias, **options)
    exact, size = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    if bias is not None:
        exact, size = exact + bias.double(), size + bias.double().abs()
    act = {"relu": torch.relu, "silu": torch.nn.functional.silu}
    exact = act.get(options.get("activation", "none"), lambda x: x)(exact)
    bound = 1.1 * EPS32 * (2 + math.sqrt(k)) * size
    needed = _matmul_bytes(case, a)
    if case.version == "v2":
        steps = math.ceil(k / _tile(case)[2]) + 1
        bound = bound + torch.finfo(a.dtype).eps * steps * size
        return worst((out.double() - exact).abs(), bound), needed
    return _ratio(out, exact, bound), needed


def _tile(case: LadderCase) -> tuple[int, ...]:
    tile: tuple[int, ...] = case.options.get("tile", TILES[case.dtype.itemsize])
    return tile


def _matmul_bytes(case: LadderCase, a: torch.Tensor) -> int:
    m, n, k = case.shape
    if case.version == "v1":
        return (2 * m * n * k + m * n) * a.itemsize
    block_m, block_n = _tile(case)[:2]
    down, across = math.ceil(m / block_m), math.ceil(n / block_n)
    loaded = across * m * k + down * n * k
    if case.version not in ("v2", "v3"):  # tiles that stick out wrap around: whole ones move
        loaded = down * across * (block_m + block_n) * k
    bias = down * n if case.options.get("bias") else 0
    return (loaded + bias + m * n) * a.itemsize


def _attention(case: LadderCase, function: Any) -> tuple[float, int]:
    """The bound of :mod:`kernels.verification.attention_bounds`."""
    heads, m, n, d = case.shape
    causal = case.options.get("causal", False)
    theirs = AttentionCase(
        m, n, d, case.dtype, heads, heads, spread=case.spread, causal=causal, backward=False
    )
    inputs = Inputs(theirs)
    out = function(*(t.contiguous() for t in (inputs.q, inputs.k, inputs.v)), **case.options)
    exact, bounds = reference_and_bounds(theirs)
    needed = _attention_bytes(case, reference.attention_band(m, n, causal)[0])
    return error(out, exact["out"], bounds["out"]), needed


def _attention_bytes(case: LadderCase, seen: torch.Tensor) -> int:
    """q and out once; k and v once for each tile of queries, as far as one of them looks."""
    heads, m, n, d = case.shape
    if case.version == "v6":
        return 0
    default = (16, n) if case.version == "v2" else ATTENTION_TILES[case.dtype.itemsize]
    block_m, block_n = case.options.get("tile", default)
    lengths = [int(tile.any(0).sum()) for tile in seen.split(block_m)]
    keys = sum(min(n, math.ceil(length / block_n) * block_n) for length in lengths)
    row = d * case.dtype.itemsize
    if case.version == "v1":  # q once for each tile of keys; scores are written and read twice
        across = math.ceil(n / block_n)
        return heads * ((m * across + 2 * keys + m) * row + 16 * m * n)
    return heads * 2 * (m + keys) * row


def _adamw(case: LadderCase, function: Any) -> tuple[float, int]:
    """Every step against ``torch.optim.AdamW`` from the same state, by ``adamw_error``.

    v1 and v2 round more often than PyTorch, in another order: they may be 8 times as far off.
    """
    hyper: dict[str, Any] = {"lr": 1e-2, "betas": (0.75, 0.875), "eps": 1e-8, "weight_decay": 0.1}
    options = dict(case.options)
    hyper.update({name: options.pop(name) for name in hyper if name in options})
    twins = [torch.nn.Parameter(case.normal(n, seed=i)) for i, n in enumerate(case.shape)]
    theirs = torch.optim.AdamW(twins, foreach=False, **hyper)
    state = [(p.detach().clone(), torch.zeros_like(p), torch.zeros_like(p)) for p in twins]
    ratio = 0.0
    for step in (1, 2, 3):
        old = state
        grads = [case.normal(n, seed=10 * step + i) for i, n in enumerate(case.shape)]
        mine = [tuple(t.detach().clone() for t in triple) for triple in old]
        p, m, v = (list(each) for each in zip(*mine, strict=True))
        function(p, [g.clone() for g in grads], m, v, step=step, **hyper, **options)
        for twin, grad in zip(twins, grads, strict=True):
            twin.grad = grad.clone()
        theirs.step()
        moments = [theirs.state[t] for t in twins]
        state = [
            (t.detach().clone(), s["exp_avg"].clone(), s["exp_avg_sq"].clone())
            for t, s in zip(twins, moments, strict=True)
        ]
        for one in zip(mine, state, old, grads, strict=True):
            ratio = max(ratio, adamw_error(*one, hyper))
    needed = 3 * ADAMW_BYTES.get(case.version, 0) * sum(case.shape)
    return ratio / (8 if case.version in ("v1", "v2") else 1), needed


_MEASURES = {
    "vector_add": _vector_add,
    "softmax": _softmax,
    "matmul": _matmul,
    "attention": _attention,
    "adamw": _adamw,
}


def _ratio(out: torch.Tensor, exact: torch.Tensor, bound: torch.Tensor) -> float:
    """The error as a share of the bound of the arithmetic plus the rounding of the output."""
    if out.dtype != torch.float32:
        floor = 2.0**-25 if out.dtype == torch.float16 else 0.0
        bound = bound + 0.5 * torch.finfo(out.dtype).eps * exact.abs() + floor
    return error(out, exact, Bound(bound, torch.zeros(())))


# ---- cases


def cases(operation: str) -> list[LadderCase]:
    """Every version of an operation, in every dtype it takes, on ragged shapes.

    The last shape runs with the blocks that the version chooses itself.
    """
    return _CASES[operation]()


def _vector_add_cases() -> list[LadderCase]:
    options: dict[str, dict[str, Any]] = {"v1": {}, "v2": {"block": 32}, "v3": {"block": 32}}
    options["v4"] = {"block": 32, "programs": 3}
    return [
        LadderCase("vector_add", version, (n,), dtype, given if n < 1000 else {}, seed=n)
        for version, given in options.items()
        for dtype in DTYPES
        for n in (1, 31, 32, 33, 133, 192, 1027)
    ]


def _softmax_cases() -> list[LadderCase]:
    shapes = [(1, 1), (3, 31), (5, 32), (2, 133), (70, 33), (1, 1030)]
    return [
        LadderCase(
            "softmax",
            version,
            shape,
            dtype,
            {"block": 32} if version in ("v1", "v2") and shape[1] < 1000 else {},
            spread=(1.0, 20.0, 1.0, 300.0, 1.0, 20.0)[i],
            strided=i % 3 == 1,
            seed=i,
        )
        for version in SOFTMAX_PASSES
        for dtype in DTYPES
        for i, shape in enumerate(shapes)
    ]


def _matmul_cases() -> list[LadderCase]:
    shapes = [(1, 1, 1), (16, 32, 64), (17, 33, 50), (40, 21, 133), (37, 50, 16), (150, 70, 70)]
    small = [(1, 1, 1), (17, 9, 50), (9, 17, 133)]  # v1 has a program for each output
    return [
        LadderCase(
            "matmul", version, shape, dtype, _matmul_options(version, i), strided=i > 1, seed=i
        )
        for version in ("v1", "v2", "v3", "v4", "v5", "v6")
        for dtype in DTYPES
        for i, shape in enumerate(small if version == "v1" else shapes)
    ]


def _matmul_options(version: str, i: int) -> dict[str, Any]:
    if version == "v1":
        return {"block_k": 32}
    options: dict[str, Any] = {"tile": (16, 16, 32, 1)} if i < 5 else {}
    if version in ("v5", "v6"):
        options["group"] = 2
    if version == "v6":
        options |= {"bias": i % 2 == 1, "activation": ("none", "silu", "relu")[i % 3]}
    return options


def _attention_cases() -> list[LadderCase]:
    shapes = [(2, 1, 1, 16), (1, 17, 33, 16), (2, 37, 50, 32), (1, 20, 64, 64), (1, 33, 40, 128)]
    shapes.append((1, 70, 100, 64))
    made = []
    for version in ("v1", "v2", "v3", "v4", "v5", "v6"):
        for dtype in DTYPES:
            for i, (heads, m, n, d) in enumerate(shapes):
                if version == "v2" and dtype == torch.float32:
                    n = min(n, 64)
                given: dict[str, Any] = {"tile": (16, 16)}
                if version in ("v2", "v6") or i == 5:
                    given = {}
                if version in ("v5", "v6"):
                    given["causal"] = i % 2 == 0
                shape, spread = (heads, m, n, d), (1.0, 3.0)[i % 2]
                made.append(LadderCase("attention", version, shape, dtype, given, spread, seed=i))
    return made


def _adamw_cases() -> list[LadderCase]:
    made = []
    for version in ("v1", "v2", "v3", "v4", "v5"):
        given = {} if version == "v5" else {"block": 32}
        lengths = (1, 31, 32, 33, 100)
        made.append(LadderCase("adamw", version, lengths, options=given))
        made.append(LadderCase("adamw", version, (1027, 5), seed=2))
        if version not in ("v1", "v2"):
            usual = {**given, "betas": (0.9, 0.999), "lr": 1e-3}
            made.append(LadderCase("adamw", version, lengths[::-1], options=usual, seed=1))
    return made


_CASES = {
    "vector_add": _vector_add_cases,
    "softmax": _softmax_cases,
    "matmul": _matmul_cases,
    "attention": _attention_cases,
    "adamw": _adamw_cases,
}


# ---- what is verified


def outcomes(dtype: torch.dtype, quick: bool) -> list[Outcome]:
    """One case in four of each operation, one in sixteen if ``quick``, over versions and shapes."""
    chosen = [
        case
        for operation in _CASES
        for case in [c for c in cases(operation) if c.dtype == dtype][:: 16 if quick else 4]
    ]
    return [check_ladder(case, strict=False) for case in chosen]


def shipped(quick: bool) -> list[Shipped]:
    """Nothing: the ladder is there to be read."""
    return []
