"""Machine instructions, the graph of their jumps, and the loops in it.

What a kernel costs is decided by its innermost loop, and "which instructions are in the loop" is
a question about the control-flow graph: compilers put parts of a loop out of line and parts of
other paths in between. A natural loop is a jump back to a block that dominates it, with every
block that can reach the jump without passing that header (Aho, Lam, Sethi and Ullman,
"Compilers", section 9.6).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    """One machine instruction: ``@predicate opcode operands``, and where it can go next."""

    address: int
    opcode: str
    operands: str
    kind: str  # "mma", "exp2", "fp32", "global", "shared", "local", ...
    predicate: str = ""
    target: int | None = None  # address that a jump goes to
    falls_through: bool = True  # whether the next instruction can follow

    def __str__(self) -> str:
        guard = f"@{self.predicate}" if self.predicate else ""
        return f"{self.address:#06x}  {guard:<5} {self.opcode} {self.operands}".rstrip()


@dataclass(frozen=True)
class Loop:
    """A natural loop, its instructions in the order of their addresses."""

    header: int
    body: tuple[Instruction, ...]

    @property
    def mix(self) -> Counter[str]:
        """How many instructions of each kind, most frequent first."""
        return mix(self.body)

    @property
    def spills(self) -> int:
        """Local-memory instructions: registers that did not fit, stored and read back each time."""
        return sum(i.kind == "local" for i in self.body)

    def inside(self, other: "Loop") -> bool:
        mine, theirs = ({i.address for i in loop.body} for loop in (self, other))
        return mine < theirs


def mix(instructions: Sequence[Instruction]) -> Counter[str]:
    """How many instructions of each kind, most frequent first."""
    counts = Counter(i.kind for i in instructions)
    return Counter(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))


def natural_loops(instructions: Sequence[Instruction]) -> list[Loop]:
    """Every natural loop, smallest first; loops with one header are one loop."""
    blocks = _blocks(instructions)
    successors = _successors(instructions, blocks)
    dominators = _dominators(successors)
    bodies: dict[int, set[int]] = {}
    for block, nexts in enumerate(successors):
        for header in nexts:
            if header in dominators.get(block, ()):
                bodies.setdefault(header, set()).update(_body(block, header, successors))
    loops = []
    for header, body in bodies.items():
        inside = [i for b in sorted(body) for i in instructions[blocks[b] : blocks[b + 1]]]
        if len(inside) > 1:  # a lone jump to itself is padding behind the program's end
            loops.append(Loop(instructions[blocks[header]].address, tuple(inside)))
    return sorted(loops, key=lambda loop: (len(loop.body), loop.header))


def main_loops(loops: Sequence[Loop]) -> list[Loop]:
    """The innermost loops that use tensor cores; with none, the innermost that touch memory."""
    for kinds in ({"mma"}, {"global", "shared"}):
        working = [loop for loop in loops if kinds & loop.mix.keys()]
        inner = [a for a in working if not any(b.inside(a) for b in working)]
        if inner:
            return sorted(inner, key=lambda loop: loop.header)
    return []


def _blocks(instructions: Sequence[Instruction]) -> list[int]:
    """Indices where basic blocks begin, and the end of the last one."""
    index = {i.address: n for n, i in enumerate(instructions)}
    starts = {0, len(instructions)}
    for n, instruction in enumerate(instructions):
        if instruction.target in index:
            starts.add(index[instruction.target])
        if instruction.target is not None or not instruction.falls_through:
            starts.add(n + 1)
    return sorted(starts)


def _successors(instructions: Sequence[Instruction], blocks: list[int]) -> list[list[int]]:
    block_at = {instructions[start].address: b for b, start in enumerate(blocks[:-1])}
    successors = []
    for b, end in enumerate(blocks[1:]):
        last = instructions[end - 1]
        nexts = [block_at[last.target]] if last.target in block_at else []
        if last.falls_through and b + 2 < len(blocks):
            nexts.append(b + 1)
        successors.append(nexts)
    return successors


def _dominators(successors: list[list[int]]) -> dict[int, set[int]]:
    """For each block, the blocks on every path to it from an entry.

    Entries are the first block and every block that nothing known jumps to: subroutines, and the
    partitions of a warp-specialised kernel, which are reached through computed jumps.
    """
    predecessors = _predecessors(successors)
    entries = {0} | {b for b in range(len(successors)) if not predecessors[b]}
    everything = set(range(len(successors)))
    dominators = {b: {b} if b in entries else everything for b in everything}
    changed = True
    while changed:
        changed = False
        for b in sorted(everything - entries):
            new = {b} | set.intersection(*(dominators[p] for p in predecessors[b]))
            changed |= new != dominators[b]
            dominators[b] = new
    return dominators


def _predecessors(successors: list[list[int]]) -> list[list[int]]:
    predecessors: list[list[int]] = [[] for _ in successors]
    for block, nexts in enumerate(successors):
        for following in nexts:
            predecessors[following].append(block)
    return predecessors


def _body(tail: int, header: int, successors: list[list[int]]) -> set[int]:
    """The blocks of the loop that the jump from ``tail`` back to ``header`` closes."""
    predecessors = _predecessors(successors)
    body, waiting = {header}, [tail]
    while waiting:
        block = waiting.pop()
        if block not in body:
            body.add(block)
            waiting.extend(predecessors[block])
    return body
