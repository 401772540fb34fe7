"""Bounds without a GPU: the roofline of an operation, and the cycles of a main loop.

Nothing here is a measurement, and nothing here is a speed. A *roofline* (Williams, Waterman and
Patterson, "Roofline", CACM 52, 2009) says that a kernel which moves B bytes and does F FLOPs
takes at least max(B / bandwidth, F / peak). A *bracket* prices each instruction of the main loop
on the part of the multiprocessor that executes it:

    ideal   all parts work side by side without a gap: the cycles of the busiest one
    serial  one part works at a time: the cycles of all parts, added up

A kernel that overlaps well lands near the first, one that waits a lot near the second. On
published kernels the bracket is off by -17 % to +34 %: fit to name the limiting pipe and to
notice that a loop has become a quarter longer, not to predict a time.
"""

import math
from dataclasses import dataclass, field

from kernels.lab.compiler import Compiled
from kernels.lab.control_flow import Instruction
from kernels.lab.gpus import Gpu, gpu
from kernels.lab.machine_code import bits, mma_flops
from kernels.lab.memory import Report
from kernels.lab.occupancy import MACHINES

DTYPE_RATES = {"fp32": 0.0, "tf32": 0.5, "fp16": 1.0, "bf16": 1.0}  # against 16-bit products


@dataclass(frozen=True)
class Roofline:
    """Bytes and FLOPs against the peaks of one GPU; times are bounds."""

    name: str
    gpu: Gpu
    dtype: str
    bytes: int
    flops: int

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.flops / self.bytes

    @property
    def ridge(self) -> float:
        """FLOPs a byte from which on arithmetic limits instead of memory."""
        return self.gpu.flops[self.dtype] / self.gpu.bandwidth

    @property
    def memory_seconds(self) -> float:
        return self.bytes / self.gpu.bandwidth

    @property
    def compute_seconds(self) -> float:
        return self.flops / self.gpu.flops[self.dtype]

    @property
    def seconds(self) -> float:
        """No kernel on this GPU is faster."""
        return max(self.memory_seconds, self.compute_seconds)

    @property
    def limit(self) -> str:
        """Which side it is: "memory" or "compute"."""
        return "memory" if self.memory_seconds >= self.compute_seconds else "compute"

    @property
    def attainable(self) -> float:
        """FLOP/s at this intensity: the roof above it."""
        return self.flops / self.seconds

    def report(self) -> str:
        """One line, labelled a bound."""
        return (
            f"{self.name} on {self.gpu.name}, {self.dtype}: bound {self.seconds * 1e6:,.1f} us "
            f"by {self.limit} ({self.bytes:,} B, {self.flops:,} FLOPs, "
            f"{self.intensity:.1f} FLOP/B; ridge {self.ridge:.0f})"
        )


def roofline(
    bytes: int, flops: int = 0, *, arch: str = "sm_90", dtype: str = "fp16", name: str = "operation"
) -> Roofline:
    """The bound on an operation that has to move ``bytes`` and to do ``flops``.

    Args:
        bytes: what it moves, from global memory and back.
        flops: what it does, 2 for a multiply-add.
        arch: a key of :data:`kernels.lab.gpus.GPUS`.
        dtype: fp16, bf16 or tf32 (tensor cores), or fp32 (none).

    Raises: ``ValueError`` for an unknown arch or dtype, and for counts that are not positive
    and finite.
    """
    machine = gpu(arch)
    if dtype not in machine.flops:
        raise ValueError(f"dtype: unknown {dtype!r}; known: {', '.join(machine.flops)}")
    if not (0 < bytes < math.inf and 0 <= flops < math.inf):  # so that NaN is refused too
        raise ValueError(
            f"bytes, flops: expected more than zero bytes, both finite, got {bytes} and {flops}"
        )
    return Roofline(name, machine, dtype, bytes, flops)


def executed(report: Report, *, arch: str = "sm_90", dtype: str = "fp16") -> Roofline:
    """The roofline of what the launches in a report really moved and multiplied.

    Beside the roofline of the operation's minimum it shows what the tiling costs. Bytes count
    every access, so what caches hold is counted more than once.
    """
    name = ", ".join(dict.fromkeys(report.kernels))
    total = report.loaded + report.stored
    return roofline(total, report.dot_flops, arch=arch, dtype=dtype, name=name)


# ---- cycles of a main loop

# Which part of the multiprocessor executes a class of instruction (the classes of sass.py and
# gcn.py). Everything takes a slot of the issue pipe as well. Classes that are not listed (waiting,
# jumps, constants) and global memory, whose traffic the roofline covers, cost that slot alone.
PIPES = {
    "fp32": "fp32",
    "fp16": "fp32",
    "integer": "integer",
    "exp2": "exp2",
    "mufu": "exp2",
    "convert": "convert",
    "shuffle": "shuffle",
}
_SLOWER_ON_ALU = ("FMNMX", "FSEL", "FSET")  # minimum, maximum, compare: half the rate of FFMA
_TWO_RESULTS = ("FADD2", "FMUL2", "FFMA2", "v_pk_")
_TENSOR_MEMORY = ("LDTM", "STTM", "UTCCP")


@dataclass(frozen=True)
class Bracket:
    """Cycles of one multiprocessor for one pass of a block through its main loop: a bound."""

    gpu: Gpu
    cycles: dict[str, float] = field(hash=False)
    flops: int  # useful ones, of the matrix products in this pass

    @property
    def limit(self) -> str:
        """The busiest pipe."""
        return max(self.cycles, key=lambda pipe: self.cycles[pipe])

    @property
    def ideal(self) -> float:
        return max(self.cycles.values())

    @property
    def serial(self) -> float:
        """All pipes one after another; issuing overlaps with what was issued."""
        return max(sum(n for p, n in self.cycles.items() if p != "issue"), self.cycles["issue"])

    def tflops(self, cycles: float) -> float:
        """What a GPU full of such loops would do a second (10¹² FLOPs): a bound, not a speed."""
        return self.flops / cycles * self.gpu.multiprocessors * self.gpu.clock / 1e12

    def report(self) -> str:
        """One line, labelled a bound."""
        shares = ", ".join(f"{p} {n:,.0f}" for p, n in sorted(self.cycles.items()))
        rate = (
            f", {self.tflops(self.serial):,.0f} to {self.tflops(self.ideal):,.0f} TFLOP/s"
            if self.flops
            else ""
        )
        return (
            f"bound on {self.gpu.name}: {self.ideal:,.0f} (ideal) to {self.serial:,.0f} (serial) "
            f"cycles a step{rate}; busiest: {self.limit} ({shares})"
        )


def bracket(compiled: Compiled, *, dtype: str = "fp16") -> Bracket:
    """The serial/ideal bracket of a kernel's main loop, for one block on one multiprocessor.

    Args:
        compiled: a kernel with a main loop.
        dtype: of the operands of the matrix products; tf32 has half the rate of fp16.

    Raises: ``ValueError`` when there is no main loop, no data sheet for the architecture, or
    the dtype is unknown.
    """
    if compiled.main_loop is None:
        raise ValueError(f"compiled: {compiled.kernel} has no main loop to put bounds on")
    if dtype not in DTYPE_RATES:
        raise ValueError(f"dtype: unknown {dtype!r}; known: {', '.join(DTYPE_RATES)}")
    machine = gpu(compiled.arch)
    width = MACHINES[compiled.arch].warp_size
    cycles: dict[str, float] = {"issue": len(compiled.core) * compiled.num_warps / machine.issue}
    for instruction in compiled.core:
        pipe, cost = price(instruction, machine, width)
        cycles[pipe] = cycles.get(pipe, 0.0) + cost * compiled.num_warps
    cycles.pop("", None)
    if compiled.tensor_core:
        rate = machine.tensor * (DTYPE_RATES[dtype] or _fp32_products(machine))
        cycles["tensor"] = compiled.step_flops / rate
    return Bracket(machine, cycles, compiled.useful_flops)


def price(instruction: Instruction, machine: Gpu, warp_size: int = 32) -> tuple[str, float]:
    """The pipe of a warp's instruction and the cycles it keeps that pipe of a multiprocessor busy.

    ``("", 0.0)`` for what costs an issue slot and nothing else; matrix products are priced by
    their FLOPs.
    """
    if instruction.kind == "mma":
        return "tensor", mma_flops(instruction) / machine.tensor
    if instruction.kind == "shared" and not instruction.opcode.startswith(_TENSOR_MEMORY):
        return "shared", warp_size * _shared_bits(instruction.opcode) / 8 / machine.shared
    pipe = PIPES.get(instruction.kind, "")
    if pipe == "fp32" and instruction.opcode.startswith(_SLOWER_ON_ALU):
        pipe = "integer"
    if not pipe:
        return "", 0.0
    results = 2 if instruction.opcode.startswith(_TWO_RESULTS) else 1
    return pipe, warp_size * results / machine.lanes[pipe]


def _shared_bits(opcode: str) -> int:
    """Bits a thread moves: ``LDSM.16.M88.4`` brings four 8 x 8 tiles of 16 bits to 32 threads."""
    if opcode.startswith(("LDSM", "STSM")):
        return 32 * int(opcode[-1]) if opcode[-1] in "24" else 32
    if opcode.startswith("ds_"):
        size = next((n for n in (128, 96, 64, 16, 8) if f"b{n}" in opcode), 32)
        return size * (2 if opcode.startswith(("ds_read2", "ds_write2")) else 1)
    return bits(opcode)


def _fp32_products(machine: Gpu) -> float:
    """fp32 products on AMD's matrix cores: 163.4 of 1,307.4 TFLOP/s."""
    return machine.flops["fp32"] / machine.flops["fp16"]
