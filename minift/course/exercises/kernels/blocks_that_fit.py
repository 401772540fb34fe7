"""kernels.blocks_that_fit: occupancy by hand."""

from collections.abc import Iterator

from kernels.lab.occupancy import blocks_per_multiprocessor
from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def of(num_warps: int, registers: int, shared: int) -> Inputs:
    return {"num_warps": num_warps, "registers": registers, "shared": shared}


def slots() -> Iterator[Inputs]:
    for warps in (1, 2, 4, 8, 16, 32):
        yield of(warps, 16, 0)


def registers() -> Iterator[Inputs]:
    for registers in (32, 64, 128, 255):
        yield of(4, registers, 0)
        yield of(8, registers, 0)


def uneven() -> Iterator[Inputs]:
    for registers in (33, 41, 57, 66, 97, 126, 169, 188, 249):
        yield of(1, registers, 0)
        yield of(4, registers, 0)


def shared() -> Iterator[Inputs]:
    for kilobytes in (16, 31, 32, 48, 75, 112, 113, 227):
        yield of(4, 32, kilobytes * 1024)


def everything() -> Iterator[Inputs]:
    yield of(8, 255, 49152)
    yield of(4, 193, 24576)
    yield of(4, 40, 100 * 1024)
    yield of(1, 20, 1000)
    for seed in range(6):
        rng = draw(seed)
        yield of(rng.choice((1, 2, 4, 8)), rng.randint(16, 255), rng.randint(0, 99) * 1024)


exercise = Exercise(
    "kernels.blocks_that_fit",
    "Programs at once on one multiprocessor",
    properties=(
        Equals("counts slots for warps and programs", slots, "64 warps, and 32 programs."),
        Equals("counts registers", registers, "They are counted a thread; a warp has 32."),
        Equals("rounds registers as the machine does", uneven, "8 a thread, and 4 warps."),
        Equals("counts shared memory", shared, "228 kB, and 1 kB goes with each program."),
        Equals("takes what runs out first", everything, "The least of all limits."),
    ),
    hints=(
        "Each resource alone allows so many programs, rounded down. What runs out first decides: "
        "min(…).",
        "Registers of a thread rounded up: -(-registers // 8) * 8. Times 32 for a warp. 65536 "
        "over that is the number of warps, of which only whole fours count.",
        "Shared memory only limits a program that uses it: 228 · 1024 // (shared + 1024).",
    ),
)


@exercise.stub
def blocks_that_fit(num_warps: int, registers: int, shared: int) -> int:
    """How many programs of a kernel one multiprocessor of an H100 holds at once.

    num_warps: warps of a program; registers: of a thread; shared: bytes of a program, or 0.

    A multiprocessor has room for 64 warps and for 32 programs. It has 65536 registers; a thread
    gets a multiple of 8 of them, a warp is 32 threads, and the number of warps for which they
    suffice is rounded down to a multiple of 4. It has 228 kB (of 1024 bytes) of shared memory; a
    program that uses any takes 1 kB more than it asked for.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(num_warps: int, registers: int, shared: int) -> int:
    a_warp = -(-registers // 8) * 8 * 32
    warps = 65536 // a_warp // 4 * 4
    limits = [64 // num_warps, 32, warps // num_warps]
    if shared > 0:
        limits.append(228 * 1024 // (shared + 1024))
    return min(limits)


@exercise.reference
def by_the_lab(num_warps: int, registers: int, shared: int) -> int:
    return blocks_per_multiprocessor("sm_90", num_warps, registers, shared)


exercise.slip(
    "no_limit_of_programs",
    "num_warps, 32, warps",
    "num_warps, warps",
    "There is room for no more than 32 programs, however small they are.",
)
exercise.slip(
    "registers_not_rounded",
    "-(-registers // 8) * 8 * 32",
    "registers * 32",
    "A thread gets registers in eights: 33 count as 40.",
)
exercise.slip(
    "warps_not_rounded",
    "65536 // a_warp // 4 * 4",
    "65536 // a_warp",
    "Only whole fours of warps count: each of the four schedulers has its own registers.",
)
exercise.slip(
    "registers_of_a_thread",
    "-(-registers // 8) * 8 * 32",
    "-(-registers // 8) * 8",
    "Registers are counted a thread, and a warp has 32 threads.",
)
exercise.slip(
    "nothing_reserved",
    "(shared + 1024)",
    "shared",
    "The system takes 1 kB of shared memory with each program.",
)
exercise.slip(
    "shared_memory_forgotten",
    "if shared > 0",
    "if shared < 0",
    "Shared memory runs out, too: 228 kB.",
)
exercise.slip(
    "warps_for_programs",
    "64 // num_warps, 32, warps // num_warps",
    "64, 32, warps",
    "These are warps: a program has num_warps of them.",
)
