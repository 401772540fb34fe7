"""How many warps of a kernel fit on one multiprocessor: a bound on how much latency can hide.

Sources: "CUDA C Programming Guide", table of technical specifications per compute capability;
CUDA occupancy calculator (allocation granularity); "AMD Instinct MI300 CDNA3 ISA" and ROCm's
"MI300 series hardware specifications". On AMD a warp is a wavefront and a multiprocessor is a
compute unit with four SIMDs.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """The limits of one multiprocessor."""

    warp_size: int
    max_warps: int
    max_blocks: int
    registers: int  # 32-bit registers, over all threads
    register_unit: int  # registers are given to a warp in multiples of this
    warp_unit: int  # and to this many warps at a time
    shared: int  # bytes
    shared_reserved: int  # bytes that the system takes from each block
    shared_per_block: int  # bytes that one block can ask for


def _nvidia(max_warps: int, max_blocks: int, shared_kb: int) -> Machine:
    return Machine(
        warp_size=32,
        max_warps=max_warps,
        max_blocks=max_blocks,
        registers=65536,
        register_unit=256,
        warp_unit=4,
        shared=shared_kb * 1024,
        shared_reserved=1024,
        shared_per_block=(shared_kb - 1) * 1024,
    )


MACHINES = {
    "sm_80": _nvidia(64, 32, 164),
    "sm_86": _nvidia(48, 16, 100),
    "sm_89": _nvidia(48, 24, 100),
    "sm_90": _nvidia(64, 32, 228),
    "sm_100": _nvidia(64, 32, 228),
    "sm_120": _nvidia(48, 24, 100),
    "gfx942": Machine(
        warp_size=64,
        max_warps=32,
        max_blocks=32,
        registers=4 * 512 * 64,
        register_unit=8 * 64,
        warp_unit=4,
        shared=64 * 1024,
        shared_reserved=0,
        shared_per_block=64 * 1024,
    ),
}


def blocks_per_multiprocessor(arch: str, num_warps: int, registers: int, shared: int) -> int:
    """How many blocks of a kernel one multiprocessor holds at once; 0 if not even one fits."""
    machine = MACHINES[arch]
    if shared > machine.shared_per_block:
        return 0
    per_warp = _round_up(max(registers, 1) * machine.warp_size, machine.register_unit)
    warps = machine.registers // per_warp // machine.warp_unit * machine.warp_unit
    limits = [machine.max_blocks, machine.max_warps // num_warps, warps // num_warps]
    if shared:
        limits.append(machine.shared // (shared + machine.shared_reserved))
    return min(limits)


def occupancy(arch: str, num_warps: int, registers: int, shared: int) -> float:
    """The share of a multiprocessor's warp slots that a kernel can fill, 0 to 1."""
    blocks = blocks_per_multiprocessor(arch, num_warps, registers, shared)
    return blocks * num_warps / MACHINES[arch].max_warps


def _round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
