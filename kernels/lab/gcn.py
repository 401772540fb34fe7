"""AMD machine code (CDNA): from the assembly text that Triton's compiler writes.

The kernel's resources stand in the metadata at the end of the text; jumps go to labels. Register
spills are ``scratch_`` instructions. Classes as in :mod:`kernels.lab.sass`.
"""

import re
from functools import cache

from kernels.lab.control_flow import Instruction

_KINDS = {
    "mma": r"v_s?mfma_|v_wmma_",
    "exp2": r"v_exp_f",
    "mufu": r"v_(log|rcp|rsq|sqrt|sin|cos)_",
    "convert": r"v_cvt_|v_perm_b32_cvt",
    "fp32": r"v_(pk_)?\w+_f32|v_cmpx?_\w+_f32|v_(div|ldexp|frexp)\w*_f32",
    "fp16": r"v_(pk_)?\w+_(bf|f)16",
    "local": r"scratch_",
    "shared": r"ds_(?!bpermute|permute|swizzle)",
    "global": r"global_|buffer_|flat_",
    "constant": r"s_load|s_buffer_load",
    "shuffle": r"ds_bpermute|ds_permute|ds_swizzle|v_(read|readfirst|write)lane|v_mov_b32_dpp",
    "sync": r"s_barrier|s_waitcnt|s_wait_|s_setprio|s_sched",
    "control": r"s_branch|s_cbranch|s_endpgm|s_nop|s_sleep|s_setpc|s_swappc|s_getpc",
}
_PATTERNS = {kind: re.compile(names) for kind, names in _KINDS.items()}

_LABEL = re.compile(r"^(\.?\w+):")
_CODE = re.compile(
    r"^\s+([vs]_\w+|ds_\w+|(?:global|buffer|flat|scratch)_\w+)(?:\s+(.*?))?\s*(?:;.*)?$"
)


@cache
def classify(opcode: str) -> str:
    """The class of an opcode; what is not listed is integer and address arithmetic."""
    return next((kind for kind, known in _PATTERNS.items() if known.match(opcode)), "integer")


def parse(assembly: str) -> list[Instruction]:
    """The instructions in order; addresses count instructions, because the text has none."""
    labels: dict[str, int] = {}
    lines: list[tuple[str, str]] = []
    for line in assembly.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(lines)
        elif code := _CODE.match(line):
            lines.append((code[1], code[2] or ""))
    return [_instruction(n, *line, labels) for n, line in enumerate(lines)]


def _instruction(n: int, opcode: str, operands: str, labels: dict[str, int]) -> Instruction:
    jumps = opcode.startswith(("s_branch", "s_cbranch"))
    return Instruction(
        address=n,
        opcode=opcode,
        operands=operands,
        kind=classify(opcode),
        target=labels.get(operands.strip()) if jumps else None,
        falls_through=not opcode.startswith(("s_branch", "s_endpgm", "s_setpc")),
    )


def resources(assembly: str) -> tuple[int, int]:
    """Vector registers a thread (accumulation registers included) and scratch bytes a thread."""
    wanted = ("vgpr_count", "private_segment_fixed_size")
    found = [re.search(rf"^\s*-?\s*\.{name}:\s*(\d+)", assembly, re.MULTILINE) for name in wanted]
    if not all(found):
        raise RuntimeError("the AMD assembly has no kernel metadata; its layout has changed")
    registers, scratch = (int(match[1]) for match in found if match)
    return registers, scratch
