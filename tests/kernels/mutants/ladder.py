"""Bugs of the teaching ladder."""

import math
from types import ModuleType

import torch

from kernels.verification.ladder import LadderCase, cases, check_ladder
from mutants import Mutant

PACKAGE = "ladder"

_BUGS = {
    "vector_add.py": {
        "tail mask off by one": (
            "tl.load(y_ptr + i, mask=i < n)",
            "tl.load(y_ptr + i, mask=i <= n)",
        ),
        "full blocks go too far": ("start + BLOCK <= n", "start + BLOCK <= n + 1"),
        "nobody adds the tail": (
            "first == full % tl.num_programs(0)", "first == full % tl.num_programs(0) + 9"
        ),
        "everybody takes every block": ("full, tl.num_programs(0))", "full, 1)"),
    },
    "softmax.py": {
        "masked lanes count as 0": ('mask=j < n, other=float("-inf")', "mask=j < n, other=0.0"),
        "sum not rescaled": ("total = total * tl.exp(high - origin) + ", "total = total + "),
        "maximum of the block only": (
            "higher = tl.maximum(high, tl.max(x, 0))", "higher = tl.max(x, 0)"
        ),
        "log2(e) to three digits": ("tl.constexpr(1.4426950408889634)", "tl.constexpr(1.443)"),
        "rows that stick out are stored": (
            "inside = (row < rows) & (j < n)",
            "inside = j < n + 0 * row",
        ),
        "the row is read twice": (
            "    p = tl.exp(x - tl.max(x, 0))\n    tl.store",
            "    x = _columns(x_ptr + row * stride_x, 0, n, BLOCK)\n"
            "    p = tl.exp(x - tl.max(x, 0))\n    tl.store",
        ),
        "stride of the output for the input": ("stride_x + j, mask=inside", "n + j, mask=inside"),
    },
    "matmul.py": {
        "the same half of K twice": (
            "tl.cast(start, tl.int64)", "tl.cast(start // 2 // BLOCK_K * BLOCK_K, tl.int64)"
        ),
        "tail of K not masked": ("mask=(k < K - start)[:, None]", "mask=(k < K)[:, None]"),
        "K taken for whole when it is not": ("k % block_k == 0", "k % 2 == 0"),
        "no wrap at the edge": ("(rows % M).to", "rows.to"),
        "the last group as high as the others": (
            "tl.minimum(down - group * GROUP, GROUP)",
            "GROUP",
        ),
        "row and column swapped": ("return group * GROUP + place % height, place // height",
                                   "return place // height, group * GROUP + place % height"),
        "sigmoid for silu": ("acc = acc * tl.sigmoid(acc)", "acc = tl.sigmoid(acc)"),
        "fp32 in tf32": ('tl.dot(a, b, acc, input_precision="ieee")', "tl.dot(a, b, acc)"),
        "narrow sums where wide ones are promised": ("wide=True", "wide=False"),
        "stride of a for b": (
            "k[:, None] * stride_bk + (columns",
            "k[:, None] * stride_ak + (columns",
        ),
    },
    "attention.py": {
        "accumulator not rescaled": (
            'acc * rescale[:, None], input_precision="ieee")\n        high',
            'acc, input_precision="ieee")\n        high',
        ),
        "accumulator not rescaled in v5": (
            'acc * rescale[:, None], input_precision="ieee")\n    return',
            'acc, input_precision="ieee")\n    return',
        ),
        "keys past the end get a weight": (
            '(keys < N)[None, :], s, float("-inf"))\n    p =',
            '(keys < N + 1)[None, :], s, float("-inf"))\n    p =',
        ),
        "keys past the last tile get a weight": (
            '(keys < N)[None, :], s, float("-inf"))\n        higher',
            '(keys < N + 1)[None, :], s, float("-inf"))\n        higher',
        ),
        "< for <= on the causal edge": ("<= last[:, None]", "< last[:, None]"),
        "unmasked loop goes too far": (
            "unmasked = first + 1 + N - M",
            "unmasked = first + BLOCK_N + N - M",
        ),
        "last tile of keys left out": (
            "tl.minimum(N, first + BLOCK_M + N - M)",
            "tl.minimum(N, first + 1 + N - M)",
        ),
        "every tile is looked at": (
            "needed = tl.minimum(N, first + BLOCK_M + N - M)",
            "needed = N",
        ),
        "natural exponent of a base-2 score": ("p = tl.exp2(s - higher", "p = tl.exp(s - higher"),
        "head offset of q for k in v1": (
            "_rows(k_ptr + head * N * D, keys, N, D)\n    s =",
            "_rows(k_ptr + head * M * D, keys, N, D)\n    s =",
        ),
        "head offset of q for k in v2": (
            "_rows(k_ptr + head * N * D, keys, N, D)\n    v =",
            "_rows(k_ptr + head * M * D, keys, N, D)\n    v =",
        ),
        "head offset of q for k in v3": (
            "_rows(k_ptr + head * N * D, keys, N, D)\n        s =",
            "_rows(k_ptr + head * M * D, keys, N, D)\n        s =",
        ),
        "scores stored in 16 bits": (
            "torch.empty(b, h, m, n, device",
            "torch.empty(b, h, m, n, dtype=q.dtype, device",
        ),
    },
    "adamw.py": {
        "eps inside the root": (
            "tl.div_rn(tl.sqrt_rn(v), correction) + eps",
            "tl.div_rn(tl.sqrt_rn(v + eps), correction)",
        ),
        "1 - beta from an fp32 beta": (
            "weight_decay, 1 - beta1, beta2, 1 - beta2, eps",
            "weight_decay, 1 - beta1, beta2, 1 - float(torch.tensor(beta2)), eps",
        ),
        "bias not corrected": ("(1 - beta2**step) ** 0.5\n    return", "1.0\n    return"),
        "decay not multiplied by lr": ("p - lr * weight_decay * p", "p - weight_decay * p"),
        "one moment read for the other": ("tl.load(row + 2)", "tl.load(row + 3)"),
        "gradient not squared": ("a * x + b * y * y", "a * x + b * y"),
        "blocks of a tensor counted from 1": (
            "for j in range(triton.cdiv(row[4], block))",
            "for j in range(1, triton.cdiv(row[4], block) + 1)",
        ),
    },
}  # fmt: skip

MUTANTS = {
    f"{file.removesuffix('.py')}: {name}": Mutant(file, *bug)
    for file, bugs in _BUGS.items()
    for name, bug in bugs.items()
}


def _wanted(case: LadderCase) -> bool:
    """Small ones, mostly in fp32; the last versions of all are other packages' kernels."""
    if (case.operation, case.version) in _NOT_OURS:
        return False
    if math.prod(case.shape) == 1 or sum(case.shape) > 230:
        return False
    narrow = case.operation == "attention" or (case.operation, case.version) == ("matmul", "v3")
    return case.dtype == torch.float32 or (narrow and case.dtype == torch.bfloat16)


_NOT_OURS = (("attention", "v6"), ("adamw", "v5"))
CASES = [
    case
    for operation in ("vector_add", "adamw", "softmax", "attention", "matmul")
    for case in cases(operation)
    if _wanted(case)
]


def survives(package: ModuleType, file: str | None = None) -> bool:
    """``file`` is the one with the bug: the other operations cannot notice it."""
    mine = [case for case in CASES if file is None or f"{case.operation}.py" == file]
    return all(check_ladder(case, package).passed for case in mine)
