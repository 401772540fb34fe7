"""Two versions of a kernel side by side: what their main loops are made of, and where they differ.

    print(compare_sass(compile_for(v1, ...), compile_for(v2, ...)))

Registers are numbered anew at each compilation, so instructions are aligned by opcode alone.
"""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from kernels.lab.compiler import Compiled
from kernels.lab.control_flow import Instruction, mix

_SAME, _CHANGED, _LEFT, _RIGHT = "   ", " | ", " < ", " > "


def compare_sass(a: Compiled, b: Compiled, *, context: int | None = 2, width: int = 100) -> str:
    """The main loops of two kernels as text: counts by kind, then the instructions in two columns.

    Args:
        a, b: left and right; a kernel without a main loop is shown whole.
        context: equal instructions kept around each difference; None keeps all of them.
        width: characters a line, 60 at least.

    Between the columns, ``|`` is an instruction that has become another one, ``<`` one that only
    the left has, ``>`` one that only the right has.

    Raises: ``ValueError`` when the lines are to be narrower than 60 characters, ``TypeError`` for
    what is not a compiled kernel.
    """
    for name, one in (("a", a), ("b", b)):
        if not isinstance(one, Compiled):
            raise TypeError(
                f"{name}: expected a compiled kernel, as of compile_for(), got {type(one).__name__}"
            )
    if width < 60:
        raise ValueError(f"width: expected at least 60 characters, got {width}")
    column = (width - len(_SAME)) // 2
    heads = [(_title(a), _title(b)), (_summary(a), _summary(b))]
    lines = [_row(left, _SAME, right, column) for left, right in heads]
    lines += ["", *_counts(a, b), ""]
    lines += [_row(left, mark, right, column) for left, mark, right in _aligned(a, b, context)]
    return "\n".join(lines)


def _title(compiled: Compiled) -> str:
    return f"{compiled.kernel} on {compiled.arch}, {compiled.num_warps} warps"


def _summary(compiled: Compiled) -> str:
    part = "main loop" if compiled.main_loop else "no loop, whole kernel"
    return f"{compiled.registers} registers; {part}: {len(compiled.core)} instructions"


def _counts(a: Compiled, b: Compiled) -> list[str]:
    """One line a kind, the most frequent first, with the change from left to right."""
    left, right = mix(a.core), mix(b.core)
    kinds = sorted(left | right, key=lambda k: (-max(left[k], right[k]), k))
    rows = [(kind, left[kind], right[kind]) for kind in kinds]
    rows.append(("all", len(a.core), len(b.core)))
    return [f"  {'kind':<10}{'left':>7}{'right':>7}{'change':>8}"] + [
        f"  {kind:<10}{m:>7}{n:>7}{n - m:>+8}" if m != n else f"  {kind:<10}{m:>7}{n:>7}"
        for kind, m, n in rows
    ]


def _aligned(a: Compiled, b: Compiled, context: int | None) -> Iterator[tuple[str, str, str]]:
    left, right = a.core, b.core
    matcher = SequenceMatcher(
        None, [i.opcode for i in left], [i.opcode for i in right], autojunk=False
    )
    blocks = matcher.get_opcodes()
    for n, (tag, i, i_end, j, j_end) in enumerate(blocks):
        if tag == "equal":
            before = 0 if n == 0 else context
            after = 0 if n == len(blocks) - 1 else context
            yield from _equal(left[i:i_end], right[j:j_end], before, after, context is None)
            continue
        both = min(i_end - i, j_end - j)
        for k in range(both):
            yield _text(left[i + k]), _CHANGED, _text(right[j + k])
        for one in left[i + both : i_end]:
            yield _text(one), _LEFT, ""
        for one in right[j + both : j_end]:
            yield "", _RIGHT, _text(one)


def _equal(
    left: Sequence[Instruction],
    right: Sequence[Instruction],
    before: int | None,
    after: int | None,
    everything: bool,
) -> Iterator[tuple[str, str, str]]:
    """A run that both have: all of it, or its ends and how much is left out."""
    head, tail = (before or 0, after or 0)
    out = 0 if everything else len(left) - head - tail
    if out <= 1:
        head, out = len(left), 0
    pairs = list(zip(left, right, strict=True))
    for x, y in pairs[:head]:
        yield _text(x), _SAME, _text(y)
    if out:
        yield f"    ... {out} equal ...", _SAME, ""
        for x, y in pairs[len(pairs) - tail :]:
            yield _text(x), _SAME, _text(y)


def _text(instruction: Instruction) -> str:
    guard = f"@{instruction.predicate} " if instruction.predicate else ""
    return f"{guard}{instruction.opcode} {instruction.operands}".rstrip()


def _row(left: str, mark: str, right: str, column: int) -> str:
    cut = [text if len(text) <= column else f"{text[: column - 1]}…" for text in (left, right)]
    return f"{cut[0]:<{column}}{mark}{cut[1]}".rstrip()
