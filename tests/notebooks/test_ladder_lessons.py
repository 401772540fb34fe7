"""What 2-kernels/02_softmax and 03_matmul define for teaching equals PyTorch's and the library's.

The definitions are taken from the notebooks' sources as they stand there. Each is broken here
once, to see that the comparison would notice.
"""

import linecache
from itertools import count

import pytest
import torch
import triton
import triton.language as tl

from kernels.lab import OutOfBoundsError, RaceError, check, interpret
from kernels.ladder import matmul, softmax
from minift.course import find
from minift.course.lessons.notebooks import SOURCES, read_source

LESSONS = {
    name: "\n\n\n".join(
        cell.source
        for cell in read_source(SOURCES / "2-kernels" / f"{name}.py").cells
        if cell.cell_type == "code" and "def " in cell.source
    )
    for name in ("02_softmax", "03_matmul")
}
NUMBERS = count()
SHAPES = [(1, 1, 2), (3, 8, 8), (5, 31, 32), (2, 100, 128)]  # rows, columns, BLOCK


def defined(lesson, name, change=("", "")):
    """A function or kernel of a notebook, with one piece of its text exchanged."""
    text = LESSONS[lesson].replace(*change)
    assert change == ("", "") or text != LESSONS[lesson]
    start = text.index(f"def {name}(")
    start = text.rfind("\n\n\n", 0, start) + 3 if "\n\n\n" in text[:start] else 0
    text = text[start:].partition("\n\n\n")[0]
    place = f"<ladder lesson {next(NUMBERS)}>"  # where Triton finds the source of a kernel
    linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
    namespace = {"torch": torch, "triton": triton, "tl": tl, "softmax": softmax, "watch": check}
    namespace |= {"matmul": matmul, "tile_of": matmul.tile_of}
    exec(compile(text, place, "exec"), namespace)
    return namespace[name]


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sums(kernel):
    """Whether the kernel adds up rows, in fp32 whatever it reads, and reads them once."""
    for seed, (rows, columns, block) in enumerate(SHAPES):
        x = normal(rows, columns, seed=seed).bfloat16()
        out = torch.full((rows,), torch.nan)
        try:
            with check() as report:
                interpret(kernel)[(rows,)](x, out, columns, BLOCK=block)
        except (OutOfBoundsError, RaceError):
            return False
        exact, size = x.double().sum(1), x.double().abs().sum(1)
        if not bool(((out - exact).abs() <= 2**-22 * size).all()) or report.loaded != x.nbytes:
            return False
    return True


def is_the_softmax_of_small_numbers(kernel):
    for seed, (rows, columns, block) in enumerate(SHAPES):
        x = normal(rows, columns, seed=seed)
        out = torch.full_like(x, torch.nan)
        try:
            with check():
                interpret(kernel)[(rows,)](x, out, columns, BLOCK=block)
        except (OutOfBoundsError, RaceError):
            return False
        if not torch.allclose(out, softmax.v3(x), rtol=1e-6, atol=0):
            return False
    return True


def multiplies(kernel):
    """In full fp32 if asked for, and otherwise with at least ten binary digits."""
    a, b, c = normal(16, 16, seed=0).abs(), normal(16, 16, seed=1).abs(), torch.empty(16, 16)
    exact = a.double() @ b.double()
    for precision, bound in (("ieee", 2**-21), ("tf32", 2**-10)):
        interpret(kernel)[(1,)](a, b, c.fill_(torch.nan), PRECISION=precision)
        if not bool(((c - exact).abs() <= bound * exact).all()):
            return False
    return True


def goes_in_groups(kernel):
    """The order of the exercise's solution."""
    solution = find("kernels.tile_order").answer
    for across, group in ((4, 1), (5, 2), (3, 8)):
        rows, columns = torch.full((2, across * across), -1).int()
        try:
            interpret(kernel)[(across * across,)](rows, columns, across, GROUP=group)
        except OutOfBoundsError:
            return False
        right = [solution(p, across, across, group) for p in range(across * across)]
        if list(zip(rows.tolist(), columns.tolist(), strict=True)) != right:
            return False
    return True


def reads_the_order_off_the_trace(order):
    """Of v5, that of the exercise's solution."""
    solution = find("kernels.tile_order").answer
    try:
        made = order(matmul.v5, group=3)
    except KeyError:  # a tile that nobody made
        return False
    return all(made[solution(p, 8, 8, 3)] == p for p in range(64))


HOLDS = {
    "sum_rows": ("02_softmax", sums),
    "softmax_by_formula": ("02_softmax", is_the_softmax_of_small_numbers),
    "one_dot": ("03_matmul", multiplies),
    "places": ("03_matmul", goes_in_groups),
    "order": ("03_matmul", reads_the_order_off_the_trace),
}
LOAD = "row * n + j, mask=j < n, "
BUGS = [
    ("sum_rows", f"{LOAD}other=0.0).to(tl.float32)", f"{LOAD}other=1.0).to(tl.float32)"),
    ("sum_rows", f"{LOAD}other=0.0).to(tl.float32)", f"{LOAD}other=0.0)"),
    ("sum_rows", "row * n + j, mask=j < n, other=0.0", "row + j, mask=j < n, other=0.0"),
    ("softmax_by_formula", "p / tl.sum(p, 0), mask=j < n", "p / tl.max(p, 0), mask=j < n"),
    ("softmax_by_formula", "p / tl.sum(p, 0), mask=j < n", "p / tl.sum(p, 0)"),
    ("one_dot", "input_precision=PRECISION", 'input_precision="tf32"'),
    ("one_dot", "tl.load(a_ptr + tile), tl.load(b_ptr", "tl.load(b_ptr + tile), tl.load(a_ptr"),
    ("places", "row_ptr + tl.program_id(0), row", "row_ptr + tl.program_id(0), column"),
    ("places", "tl.program_id(0), across, across, GROUP", "tl.program_id(0), across, across, 1"),
    ("order", 'x.kind == "store"', 'x.kind == "load"'),
    ("order", "16 * row + 16 * column", "16 * column + 16 * row"),
]


@pytest.mark.parametrize("name", HOLDS)
def test_what_is_defined_for_teaching_is_right(name):
    lesson, holds = HOLDS[name]
    assert holds(defined(lesson, name))


@pytest.mark.parametrize(("name", "old", "new"), BUGS)
def test_a_bug_is_noticed_in(name, old, new):
    lesson, holds = HOLDS[name]
    assert LESSONS[lesson].count(old) == 1
    assert not holds(defined(lesson, name, (old, new)))
