"""What 2-kernels/01_first_kernel defines for teaching equals the library, on ragged sizes.

The definitions are taken from the notebook's source as they stand there. Each is broken here once,
to see that the comparison would notice.
"""

import functools
import linecache
from itertools import count

import pytest
import torch
import triton
import triton.language as tl

from kernels import adamw, reference
from kernels.lab import OutOfBoundsError, RaceError, check, interpret
from minift.course.lessons.notebooks import SOURCES, read_source

LESSON = SOURCES / "2-kernels" / "01_first_kernel.py"
SIZES = [(1, 2), (3, 8), (16, 16), (31, 16), (64, 16), (133, 32)]  # n, BLOCK
NUMBERS = count()


@functools.cache
def cell(start):
    """The source of the notebook's one code cell that contains ``start``."""
    cells = [c.source for c in read_source(LESSON).cells if c.cell_type == "code"]
    (found,) = [source for source in cells if start in source]
    return found


def defined(name, change=("", "")):
    """A function or kernel of the notebook, with one piece of its cell's text exchanged."""
    text = cell(f"def {name}(").replace(*change)
    place = f"<lesson {next(NUMBERS)}>"  # where Triton finds the source of a kernel
    linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
    namespace = {"torch": torch, "triton": triton, "tl": tl}
    exec(compile(text, place, "exec"), namespace)
    return namespace[name]


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def adds(kernel):
    """Whether the kernel adds, bit for bit, and moves 12 bytes an element."""
    for seed, (n, block) in enumerate(SIZES):
        x, y = normal(2, n, seed=seed)
        out = torch.full((n,), torch.nan)
        try:
            with check() as report:
                interpret(kernel)[(triton.cdiv(n, block),)](x, y, out, n, BLOCK=block)
        except (OutOfBoundsError, RaceError):
            return False
        if not torch.equal(out, x + y) or report.loaded + report.stored != 12 * n:
            return False
    return True


def formula_is_the_references(step):
    """Five steps in fp64; the two orders of operations differ by 1e-15."""
    hyperparameters = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}
    mine = right = (normal(2, 5, seed=0).double(), *torch.zeros(2, 2, 5).double())
    for t in range(1, 6):
        g = normal(2, 5, seed=t).double()
        mine = step(mine[0], g, *mine[1:], t)
        right = reference.adamw_step(right[0], g, *right[1:], step=t, **hyperparameters)
    return all(torch.allclose(a, b, rtol=1e-12, atol=0) for a, b in zip(mine, right, strict=True))


def kernel_is_the_librarys(kernel):
    """Three steps, every bit of p, m and v, with a decay and a rate that show."""
    for seed, (n, block) in enumerate(SIZES):
        mine = [normal(n, seed=seed), torch.zeros(n), torch.zeros(n)]
        right = [t.clone() for t in mine]
        for t in range(1, 4):
            g = normal(n, seed=100 * t + seed)
            constants = adamw.step_constants(t, 0.1, (0.9, 0.999), 1e-8, 0.1)
            grid = (triton.cdiv(n, block),)
            try:
                interpret(kernel)[grid](mine[0], g, *mine[1:], n, *constants, BLOCK=block)
            except OutOfBoundsError:
                return False
            adamw.update([adamw.Row(right[0], g, *right[1:], constants)], block=block)
        if not all(torch.equal(a, b) for a, b in zip(mine, right, strict=True)):
            return False
    return True


@pytest.mark.parametrize("name", ["add", "add_tail"])
def test_the_additions_add(name):
    assert adds(defined(name))


def test_the_formula_of_adamw_is_the_references():
    assert formula_is_the_references(defined("adamw_by_formula"))


def test_the_adamw_kernel_is_the_librarys():
    assert kernel_is_the_librarys(defined("adamw_exact"))


BUGS = [
    (adds, "add", "x_ptr + i, mask=i < n", "x_ptr + i, mask=i <= n"),
    (adds, "add", "y_ptr + i, mask=i < n", "y_ptr + i"),
    (adds, "add", "x + y, mask=i < n", "x + y, mask=i < n - 1"),
    (adds, "add", "tl.program_id(0) * BLOCK +", "tl.program_id(0) +"),
    (adds, "add_tail", "start + BLOCK <= n", "start + BLOCK < n + 2"),
    (adds, "add_tail", "start + BLOCK <= n", "start <= n"),
    (adds, "add_tail", "+ tl.load(y_ptr + i))", "+ tl.load(x_ptr + i))"),
    (formula_is_the_references, "adamw_by_formula", "LR * DECAY * p", "DECAY * p"),
    (formula_is_the_references, "adamw_by_formula", "v_hat.sqrt() + EPS", "(v_hat + EPS).sqrt()"),
    (formula_is_the_references, "adamw_by_formula", "* g * g", "* g"),
    (formula_is_the_references, "adamw_by_formula", "BETAS[1] ** t", "BETAS[1]"),
    (kernel_is_the_librarys, "adamw_exact", "mask = i < n", "mask = i <= n"),
    (kernel_is_the_librarys, "adamw_exact", "p * keep", "p"),
    (kernel_is_the_librarys, "adamw_exact", "tl.fma(g - m, mix1, m)", "m + (g - m) * mix1"),
    (kernel_is_the_librarys, "adamw_exact", "g * mix2, g, v", "g, mix2, v"),
    (kernel_is_the_librarys, "adamw_exact", "tl.store(v_ptr + i, v, mask=mask)", "pass"),
]


@pytest.mark.parametrize(("holds", "name", "old", "new"), BUGS)
def test_a_bug_is_noticed(holds, name, old, new):
    assert old in cell(f"def {name}(")
    assert not holds(defined(name, (old, new)))
