"""What instructions do, read off their opcodes: tensor-core FLOPs, widths of accesses, copies.

NVIDIA's opcodes carry the shape of a matrix product (``HMMA.16816``: 16 x 8 x 16 by one warp;
``HGMMA.64x128x16``: by four warps together) and the width of an access (``LDG.E.128``); AMD's do
the same (``v_mfma_f32_32x32x8_f16``, ``global_load_dwordx4``). Blackwell's ``UTCHMMA`` keeps its
shape in a descriptor, so there the FLOPs of a step come from the products in Triton's own form.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod

from kernels.lab.control_flow import Instruction, Loop

_WARP_MMA = re.compile(r"[HIQDBO]MMA\.(?:SP\.)?(16|8)(8)(\d+)\b")
_GROUP_MMA = re.compile(r"[HIQ]GMMA\.(?:SP\.)?(\d+)x(\d+)x(\d+)")
_AMD_MMA = re.compile(r"v_s?(?:mfma|wmma)_\w+?_(\d+)x(\d+)x(\d+)_?(?:(\d+)b_)?")
_AMD_WIDTHS = {"x4": 128, "x3": 96, "x2": 64, "": 32}
_LOAD = re.compile(r"LDG(STS)?\b|LD\b|UTMALDG|UBLKCP|(global|buffer|flat)_load")
_STORE_TO_SHARED = re.compile(r"(STS|STSM)\b|ds_write|ds_store")
_BARRIER = re.compile(r"BAR\b|s_barrier")
_MMA_NAME = re.compile(r"v_s?(?:mfma|wmma)|[A-Z]+")
_NARROW = 0.1  # a width that carries less than this share of the bytes is not bulk


def mma_flops(instruction: Instruction) -> int:
    """FLOPs of a matrix product for each warp that takes part; 0 when the opcode does not say."""
    for pattern, warps in ((_WARP_MMA, 1), (_GROUP_MMA, 4), (_AMD_MMA, 1)):
        if found := pattern.match(instruction.opcode):
            return 2 * prod(int(size) for size in found.groups() if size) // warps
    return 0


def bits(opcode: str) -> int:
    """Bits that one thread loads or stores; 0 for a copy of a whole tile by the copy engine."""
    if opcode.startswith(("UTMA", "UBLKCP")):
        return 0
    if amd := re.search(r"_dword(x\d)?", opcode):
        return _AMD_WIDTHS[amd[1] or ""]
    if amd := re.search(r"_[us]?(byte|short)", opcode):
        return 8 if amd[1] == "byte" else 16
    width = re.search(r"\.[US]?(8|16|64|128)(?=\.|$)", opcode)
    return int(width[1]) if width else 32


def is_load(instruction: Instruction) -> bool:
    """Whether it brings data from global memory, to registers or to shared memory."""
    return instruction.kind == "global" and bool(_LOAD.match(instruction.opcode))


def is_asynchronous(instruction: Instruction) -> bool:
    """Whether it copies to shared memory without waiting and without using registers."""
    to_lds = instruction.opcode.startswith(("global_load", "buffer_load")) and (
        "_lds" in instruction.opcode or re.search(r"\blds\b", instruction.operands)
    )
    return instruction.opcode.startswith(("LDGSTS", "UTMALDG", "UBLKCP")) or bool(to_lds)


def tensor_core(instructions: Iterable[Instruction]) -> str:
    """The tensor-core instruction: HMMA, HGMMA, UTCHMMA, v_mfma; empty when there is none."""
    names = Counter(
        found[0] for i in instructions if i.kind == "mma" and (found := _MMA_NAME.match(i.opcode))
    )
    return names.most_common(1)[0][0] if names else ""


def load_widths(instructions: Iterable[Instruction]) -> Counter[int]:
    """How many loads from global memory there are of each width in bits (0: whole tiles)."""
    return Counter(bits(i.opcode) for i in instructions if is_load(i))


def bulk(widths: Counter[int]) -> Counter[int]:
    """The widths that carry at least a tenth of the bytes, and copies of whole tiles."""
    carried = {width: width * n for width, n in widths.items()}
    least = _NARROW * sum(carried.values())
    return Counter({w: n for w, n in widths.items() if n and (w == 0 or carried[w] >= least)})


def barriers(instructions: Iterable[Instruction]) -> int:
    """How many times the threads of the block wait for each other."""
    return sum(bool(_BARRIER.match(i.opcode)) for i in instructions)


def shared_stores(instructions: Iterable[Instruction]) -> int:
    """Stores to shared memory: values that change hands between threads."""
    return sum(bool(_STORE_TO_SHARED.match(i.opcode)) for i in instructions)


def leanest(loops: Sequence[Loop]) -> Loop | None:
    """The loop that spends the fewest other instructions on each matrix product.

    Attention has its step twice, without a mask and with one; nearly all of the work is in the
    first, and it is the shorter. Loops without matrix products are compared by the instructions
    they spend on each bit they load, which tells a full block from a masked tail. Loops with less
    than half of the arithmetic of another are left out: they fill a pipeline or count.
    """

    def cost(loop: Loop) -> float:
        products = loop.mix["mma"]
        if products:
            return (len(loop.body) - products) / products
        moved = sum(max(bits(i.opcode), 1) for i in loop.body if i.kind == "global")
        return len(loop.body) / moved if moved else len(loop.body)

    def work(loop: Loop) -> int:
        return loop.mix["mma"] or loop.mix["fp32"]

    most = max(map(work, loops), default=0)
    busy = [loop for loop in loops if 2 * work(loop) >= most]
    return min(busy, key=lambda loop: (cost(loop), loop.header), default=None)


# ---- Triton's own form

_DOT = re.compile(r"tt\.dot .*: tensor<([\dx]+)x\w+> \* tensor<([\dx]+)x\w+>")
_BLOCK_LOAD = re.compile(r"tt\.load (.*) : tensor<([\dx]+)x!tt\.ptr<[a-z]*(\d+)>>")


def dots_of_loops(ttir: str) -> list[int]:
    """FLOPs of the ``tl.dot`` in one pass of each innermost loop that has any, in order."""
    found: list[int] = []
    open_loops: list[list[int]] = []  # for each block: FLOPs, whether a loop, whether inner ones
    for line in ttir.splitlines():
        if dot := _DOT.search(line):
            for block in open_loops[::-1]:
                if block[1]:
                    block[0] += _dot_flops(dot)
                    break
        closes, opens = line.strip().startswith("}"), line.rstrip().endswith("{")
        if closes and open_loops:
            flops, is_loop, has_inner = open_loops.pop()
            if flops and is_loop and not has_inner:
                found.append(flops)
            if flops or has_inner:
                for block in open_loops:
                    block[2] = 1
        if opens:
            open_loops.append([0, int(bool(re.search(r"scf\.(for|while)", line)) or _do(line)), 0])
    return found


def _do(line: str) -> bool:
    """The body of a ``while`` opens with ``} do {``."""
    return line.strip().startswith("} do")


def _dot_flops(dot: re.Match[str]) -> int:
    (*batch, m, k), (*_, n) = ([int(size) for size in shape.split("x")] for shape in dot.groups())
    return 2 * prod(batch) * m * n * k


def loaded_by_blocks(ttir: str) -> int:
    """Bits that a program loads in whole blocks; in masked ones when it has no others."""
    masked = unmasked = 0
    for operands, shape, width in _BLOCK_LOAD.findall(ttir):
        size = prod(int(n) for n in shape.split("x")) * int(width)
        masked, unmasked = (
            (masked + size, unmasked) if "," in operands else (masked, unmasked + size)
        )
    return unmasked or masked


def widest(widths: Counter[int], wanted: float) -> Counter[int]:
    """The widest loads that together carry ``wanted`` bits a thread, and copies of whole tiles.

    A masked tail is never loaded in wider pieces than the full block beside it, and single values
    are narrow: what is left when the blocks have been loaded are those two.
    """
    found: Counter[int] = Counter({0: widths[0]} if widths[0] else {})
    for width in sorted(widths, reverse=True):
        if width and wanted > 0:
            found[width] = min(widths[width], math.ceil(wanted / width))
            wanted -= found[width] * width
    return found
