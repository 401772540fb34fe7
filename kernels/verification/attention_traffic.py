"""The bytes that attention moves, and the least that its tiles allow: equal in every case.

Tiling decides what has to be read again. A kernel that owns queries reads, for each of its tiles,
the tiles of keys and values of which at least one query sees something; the one that owns keys the
reverse. What a program owns it reads once and writes once. The pass for the gradient of a bias
owns tiles of the bias: for each of them it reads queries and keys of every batch and head that
share it, one after the other, and keeps nothing from one tile to the next.
"""

from kernels import reference
from kernels.flash_attention import call, layouts
from kernels.lab.memory import Report
from kernels.verification.attention_cases import AttentionCase, Inputs

BULK = ("q", "k", "v", "out", "dout", "dq", "dk", "dv", "dbias", "x.bias")
ROWS = ("lse_ptr", "delta_ptr", "dlse_ptr")  # one fp32 number a query

Tiles = list[tuple[int, int]]  # queries and keys of each tile of scores that one head visits


def bulk_bytes(report: Report) -> int:
    """The bytes of the matrices and of the numbers a query; small options and tables left out."""
    names = {*(f"{name}.ptr" for name in BULK), *ROWS}
    return sum(t.loaded + t.stored for name, t in report.traffic.items() if name in names)


def forward_bytes(case: AttentionCase) -> int:
    """q, out and LSE once, and for each tile of queries the keys and values that it sees."""
    inputs, row = Inputs(case), case.d * case.dtype.itemsize
    tiles = _tiles(inputs, "forward")
    keys = sum(n for _, n in tiles)
    one = 2 * (case.m + keys) * row + 4 * case.m + _bias(inputs, tiles)
    return case.batch * case.heads * one


def backward_bytes(case: AttentionCase) -> int:
    """The same for the kernels of the backward pass: delta, dq, dkv and, for a bias, dbias."""
    inputs, row, m = Inputs(case), case.d * case.dtype.itemsize, case.m
    delta = 2 * m * row + 4 * m * (2 if case.lse_gradient else 1)
    tiles = _tiles(inputs, "dq")
    dq = 3 * m * row + 8 * m + 2 * sum(n for _, n in tiles) * row + _bias(inputs, tiles)
    tiles = _tiles(inputs, "dkv")
    dkv = sum(m for m, _ in tiles) * (2 * row + 8) + _bias(inputs, tiles)
    own = 4 * case.n * row
    total = case.batch * (case.heads * (delta + dq + dkv) + case.kv_heads * own)
    return total + (bias_gradient_bytes(case) if case.bias else 0)


def bias_gradient_bytes(case: AttentionCase) -> int:
    """For each tile of the bias and each batch and head that share it: q, dout, LSE and delta of
    its queries, k and v of its keys, and the bias; then one fp32 number of the gradient a score."""
    inputs, row = Inputs(case), case.d * case.dtype.itemsize
    tiles = _tiles(inputs, "dbias")
    read = sum(m * (2 * row + 8) + n * 2 * row for m, n in tiles) + _bias(inputs, tiles)
    batches, heads = inputs.options["bias"].shape[:2]  # of the bias: 1 where it is shared
    return case.batch * case.heads * read + batches * heads * 4 * sum(m * n for m, n in tiles)


def _bias(inputs: Inputs, tiles: Tiles) -> int:
    """Bytes of the bias for the scores of these tiles; 0 where there is none."""
    bias = inputs.options.get("bias")
    return 0 if bias is None else bias.itemsize * sum(m * n for m, n in tiles)


def _tiles(inputs: Inputs, kernel: str) -> Tiles:
    """Every tile of scores of one head in which some query sees some key, by the band alone."""
    case, options = inputs.case, inputs.options
    rich = inputs.problem(call).rich
    block_m, block_n = case.blocks or layouts.layout_for(kernel, inputs.q, rich=rich)[:2]
    seen, _ = reference.attention_band(
        *(case.m, case.n, case.causal, case.window),
        *(options.get("cu_seqlens_q"), options.get("cu_seqlens_k")),
    )
    tiles: Tiles = []
    q0 = k0 = 0
    for m, n in case.packed or ((case.m, case.n),):
        own = seen[q0 : q0 + m, k0 : k0 + n]
        q0, k0 = q0 + m, k0 + n
        tiles += [
            (part.shape[0], part.shape[1])
            for rows in own.split(block_m)
            for part in rows.split(block_n, 1)
            if part.any()
        ]
    return tiles
