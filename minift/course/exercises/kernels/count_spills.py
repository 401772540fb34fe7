"""kernels.count_spills: which accesses to local memory are paid for in every pass of a loop?"""

from collections.abc import Iterator

from kernels.lab.control_flow import Instruction, natural_loops
from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals

WORK = ("FADD R1, R2, R3", "HMMA.16816.F32 R4, R8, R12, R4", "LDG.E.128 R8, [R2.64]")
SPILLS = ("LDL R4, [R1+0x8]", "LDL.64 R6, [R1+0x10]", "STL.128 [R1+0x20], R8", "STL [R1], R5")


def listing(*lines: str) -> Inputs:
    """The lines with their addresses; ``back N`` and ``on N`` jump by that many instructions."""
    return {"listing": "\n".join(_line(i, text) for i, text in enumerate(lines))}


def _line(place: int, text: str) -> str:
    way, _, count = text.partition(" ")
    if way in ("back", "on"):
        target = place - int(count) if way == "back" else place + int(count)
        text = f"@P0 BRA {16 * target:#06x}"
    guard, rest = text.split(" ", 1) if text.startswith("@") else ("", text)
    return f"{16 * place:#06x}  {guard:<5} {rest}"


def one_loop() -> Iterator[Inputs]:
    yield listing("MOV R1, R2", WORK[0], SPILLS[0], WORK[1], SPILLS[3], "back 4", "EXIT ")
    yield listing("MOV R1, R2", WORK[0], WORK[1], "back 2", "EXIT ")


def around() -> Iterator[Inputs]:
    yield listing(SPILLS[3], SPILLS[0], WORK[0], SPILLS[0], "back 2", SPILLS[0], "EXIT ")
    yield listing(SPILLS[3], WORK[0], WORK[1], "back 2", SPILLS[0], "EXIT ")


def widths() -> Iterator[Inputs]:
    yield listing("MOV R1, R2", *SPILLS[:3], SPILLS[2], WORK[1], "back 5", "EXIT ")


def forward() -> Iterator[Inputs]:
    yield listing(SPILLS[0], "on 3", SPILLS[0], SPILLS[3], WORK[0], WORK[1], "back 1", "EXIT ")
    yield listing("MOV R1, R2", WORK[0], "on 2", SPILLS[0], WORK[1], "back 4", "EXIT ")


def nested() -> Iterator[Inputs]:
    inner = (WORK[0], SPILLS[1], WORK[1], "back 3")
    yield listing("MOV R1, R2", WORK[2], *inner, SPILLS[0], "back 6", "EXIT ")
    yield listing(*inner[:3], "back 2", WORK[0], SPILLS[2], WORK[1], "back 2", SPILLS[0], "EXIT ")


def mixed() -> Iterator[Inputs]:
    for seed in range(4):
        rng = draw(seed)
        lines: list[str] = []
        for _ in range(rng.randint(1, 4)):
            lines += rng.choices(WORK + SPILLS, k=rng.randint(0, 6))
            body = rng.choices(WORK + SPILLS, k=rng.randint(1, 12))
            lines += [*body, f"back {rng.randint(1, len(body))}"]
        yield listing(*lines, *rng.choices(SPILLS, k=2), "EXIT ")


exercise = Exercise(
    "kernels.count_spills",
    "Spills in loops",
    properties=(
        Equals(
            "counts loads and stores in a loop", one_loop, "LDL and STL between jump and target."
        ),
        Equals("leaves out what is before and behind", around, "Only the loop is paid for often."),
        Equals("knows every width", widths, "LDL.64 and STL.128 are spills, too."),
        Equals("takes a jump forward for no loop", forward, "Compare target and address."),
        Equals("counts an instruction of two loops once", nested, "Keep a set of addresses."),
        Equals("counts in longer listings", mixed, "Several loops, one after the other."),
    ),
    hints=(
        "Go through the lines twice: first for the loops, then for the spills. `int(text, 16)` "
        "reads 0x0040.",
        "A line splits into words: the address, perhaps a guard that begins with @, the opcode, "
        "the operands. A BRA whose target is not above its own address closes a loop.",
        "The first part of the opcode tells the kind: opcode.split('.')[0] in ('LDL', 'STL').",
    ),
)


@exercise.stub
def count_spills(listing: str) -> int:
    """How many LDL and STL instructions of a listing stand in a loop.

    A line is `address  guard opcode operands`, such as `0x0040  @!P0  LDL.64 R6, [R1+0x10]`;
    most have no guard. Opcodes may have a width: LDL.64, STL.128. A loop is what lies from the
    target of a jump (`BRA 0x0010`) that goes back to that jump. An instruction that stands in
    several loops counts once.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(listing: str) -> int:
    code = []
    for line in listing.splitlines():
        address, *words = line.replace(",", " ").split()
        words = words[1:] if words[0].startswith("@") else words
        code.append((int(address, 16), words[0].split(".")[0], words[-1]))
    ends = [(int(last, 16), address) for address, opcode, last in code if opcode == "BRA"]
    loops = [(target, address) for target, address in ends if target <= address]
    spills = [address for address, opcode, _ in code if opcode in ("LDL", "STL")]
    return sum(any(low <= address <= high for low, high in loops) for address in spills)


@exercise.reference
def by_graph(listing: str) -> int:
    code = [_parsed(line) for line in listing.splitlines()]
    inside = {i.address for loop in natural_loops(code) for i in loop.body if i.kind == "local"}
    return len(inside)


def _parsed(line: str) -> Instruction:
    address, rest = line.split(maxsplit=1)
    guard, rest = rest.split(maxsplit=1) if rest.startswith("@") else ("", rest)
    opcode, _, operands = rest.strip().partition(" ")
    kind = "local" if opcode.startswith(("LDL", "STL")) else "other"
    target = int(operands, 16) if opcode == "BRA" else None
    return Instruction(int(address, 16), opcode, operands, kind, guard, target, opcode != "EXIT")


exercise.slip(
    "whole_kernel",
    "return sum(any(low <= address <= high for low, high in loops) for address in spills)",
    "return len(spills)",
    "Spills outside of loops are counted: they are paid for once, and that is cheap.",
)
exercise.slip(
    "loads_only",
    '("LDL", "STL")',
    '("LDL",)',
    "Only loads are counted: what is read back (LDL) was stored (STL) before.",
)
exercise.slip(
    "one_width",
    'words[0].split(".")[0], words[-1]',
    "words[0], words[-1]",
    "A spill may be wider than 32 bits: LDL.64 and STL.128 count, too.",
)
exercise.slip(
    "counted_twice",
    "sum(any(low <= address <= high for low, high in loops) for address in spills)",
    "sum(sum(low <= address <= high for low, high in loops) for address in spills)",
    "An instruction in two loops was counted twice.",
)
exercise.slip(
    "any_jump",
    "if target <= address]",
    "]\n    loops = [(min(loop), max(loop)) for loop in loops]",
    "A jump forward was taken for a loop: the target of a loop lies before its jump.",
)
exercise.slip(
    "up_to_the_first_jump",
    "for low, high in loops)",
    "for low, high in loops[:1])",
    "Only the first loop is looked at.",
)
