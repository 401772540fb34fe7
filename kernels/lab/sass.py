"""NVIDIA machine code (SASS): from a cubin to classified instructions.

``ptxas`` turns PTX into a cubin without a GPU, and ``cuobjdump``, which Triton ships, prints it
back. NVIDIA documents the opcodes by name ("CUDA Binary Utilities", instruction set reference);
the classes below say which part of the machine an instruction keeps busy.
"""

import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import triton

from kernels.lab.control_flow import Instruction

# The first match wins. Names are matched up to the first dot unless the pattern has one.
_KINDS = {
    "mma": r"([HIQDBO]|HG|QG|IG|UTC[HQO]?)MMA|UTC\w*MMA",
    "exp2": r"MUFU\.EX2",
    "mufu": r"MUFU",
    "convert": r"F2F|F2FP|I2F|F2I|I2FP|F2IP|FRND|HADD2\.F32",
    "fp32": r"FADD2?|FMUL2?|FFMA2?|FMNMX3?|FSEL|FSETP?|FCHK|FSWZ\w*",
    "fp16": r"HADD2|HMUL2|HFMA2|HMNMX2|HSETP?2",
    "local": r"LDL|STL",
    "shared": r"LDS|STS|LDSM|STSM|ATOMS|LDTM|STTM|UTCCP",
    "global": r"LDG|STG|LDGSTS|UTMALDG|UTMASTG|UTMAREDG|UBLKCP|ATOMG?|REDG?|LD|ST",
    "constant": r"U?LDCU?",
    "shuffle": r"SHFL|VOTE|MATCH|C?REDUX",
    "sync": r"BAR|WARPSYNC|WARPGROUP|DEPBAR|LDGDEPBAR|SYNCS|FENCE|MEMBAR|ERRBAR|CCTL|ARRIVES|UTCBAR"
    r"|UTMACMDFLUSH|UTMAPF|UCGABAR\w*|ELECT|NANOSLEEP|USETMAXREG|B2R|R2B|UTCATOMSWS",
    "control": r"BRA|BRXU?|JMP|EXIT|BSSY|BSYNC|BREAK|CALL|RET|YIELD|NOP|KILL|PREEXIT|ACQBULK|BMOV",
}
_PATTERNS = {kind: re.compile(rf"({names})(?=\.|$)") for kind, names in _KINDS.items()}

_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(\S+)\s+)?(\S+)\s*(.*?)\s*;")
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+)")
_ALWAYS = ("", "PT", "UPT")


@cache
def classify(opcode: str) -> str:
    """The class of an opcode; what is not listed is integer and address arithmetic."""
    return next((kind for kind, known in _PATTERNS.items() if known.match(opcode)), "integer")


def parse(listing: str) -> list[Instruction]:
    """The instructions of a ``cuobjdump -sass`` listing."""
    found = (_LINE.match(line) for line in listing.splitlines())
    return [_instruction(*match.groups("")) for match in found if match]


def _instruction(address: str, predicate: str, opcode: str, operands: str) -> Instruction:
    base = opcode.split(".")[0]
    # Some branches carry their condition as an operand: `BRA.U UP0, 0x90`.
    conditional = predicate not in _ALWAYS or bool(re.match(r"!?U?P\d", operands))
    jump = re.search(r"0x([0-9a-f]+)\s*$", operands) if base in ("BRA", "JMP") else None
    ends = base in ("BRA", "JMP", "BRX", "BRXU", "EXIT", "RET", "KILL")
    return Instruction(
        address=int(address, 16),
        opcode=opcode,
        operands=operands,
        kind=classify(opcode),
        predicate="" if predicate in _ALWAYS else predicate,
        target=int(jump[1], 16) if jump else None,
        falls_through=conditional or not ends,
    )


def disassemble(cubin: bytes) -> tuple[list[Instruction], int, int]:
    """Instructions, registers a thread and stack bytes a thread of a cubin with one kernel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-sass", "-res-usage", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    resources = _RESOURCES.search(done.stdout)
    if done.returncode or not resources:
        raise RuntimeError(f"cuobjdump could not read the cubin: {done.stderr.strip()[:200]}")
    return parse(done.stdout), int(resources[1]), int(resources[2])
