"""What 2-kernels/06_adamw and 07_performance define for teaching equals the library's.

The definitions are taken from the notebooks' sources as they stand there. Each is broken here
once, to see that the comparison would notice.
"""

import pytest
import torch
import triton

from kernels import reference
from kernels.adamw import step_constants
from kernels.adamw.table import pieces as pieces_of_the_library
from kernels.lab import check, roofline
from kernels.ladder import matmul, vector_add
from minift.course.lessons.notebooks import SOURCES, read_source

LESSONS = {
    name: [
        cell.source
        for cell in read_source(SOURCES / "2-kernels" / f"{name}.py").cells
        if cell.cell_type == "code"
    ]
    for name in ("06_adamw", "07_performance")
}
LR, BETAS, EPS, DECAY = 1e-2, (0.9, 0.999), 1e-8, 0.1  # a rate and a decay that show


def cell(lesson, start):
    """The one code cell of a notebook that contains ``start``."""
    (found,) = [source for source in LESSONS[lesson] if start in source]
    return found


def run(text, **names):
    """A cell's names after it has run among other names."""
    namespace = {"torch": torch, "triton": triton, **names}
    exec(compile(text, "<optimizer lesson>", "exec"), namespace)
    return namespace


def normal(*shape, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def loop_is_the_references(text):
    """Five steps of three tensors in fp64; the two orders of operations differ by 1e-15."""
    numbers = {"LR": LR, "BETAS": BETAS, "EPS": EPS, "DECAY": DECAY}
    loop = run(text, step_constants=step_constants, **numbers)["adamw_loop"]
    mine = [[normal(n, seed=n) for n in (1, 7, 33)]] + [
        [torch.zeros(n, dtype=torch.float64) for n in (1, 7, 33)] for _ in range(2)
    ]
    right = [list(tensors) for tensors in mine]
    right = [[t.clone() for t in tensors] for tensors in right]
    options = {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY}
    for step in range(1, 6):
        grads = [normal(n, seed=100 * step + n) for n in (1, 7, 33)]
        loop(mine[0], grads, *mine[1:], step)
        for i, g in enumerate(grads):
            state = right[0][i], g, right[1][i], right[2][i]
            new = reference.adamw_step(*state, step=step, **options)
            right[0][i], right[1][i], right[2][i] = new
    pairs = [(a, b) for x, y in zip(mine, right, strict=True) for a, b in zip(x, y, strict=True)]
    return all(torch.allclose(a, b, rtol=1e-10, atol=1e-14) for a, b in pairs)


def pieces_are_the_librarys(text):
    """For lengths below, at and above whole blocks."""
    shapes = [(256,), (1,), (3, 100), (257,), (512,)]
    params = [torch.zeros(shape) for shape in shapes]
    made = run(text, start=lambda: (params,))["pieces"]
    right = pieces_of_the_library([p.numel() for p in params], 256)
    return [tuple(piece) for piece in right.tolist()] == made


def half_places_are_those_of_rounding(text):
    """A number moves to the next bf16 by a bit more than half a place, and by a bit less stays."""
    found = run(text)
    low, half = found["low"].float(), found["half_a_place"]
    stays = (low + half * 0.99).bfloat16().float() == low
    moves = (low + half * 1.01).bfloat16().float() > low
    return bool((stays & moves).all())


def counts_bytes_and_flops(text):
    """An addition with its FLOPs counted by hand, and a product with those of the interpreter."""
    counted = run(text, watch=check, roofline=roofline)["counted"]
    x, a = torch.zeros(100), torch.zeros(16, 16).half()
    add = counted("add", lambda: vector_add.v3(x, x), 100)
    dot = counted("dot", lambda: matmul.v3(a, a, tile=(16, 16, 16, 4)), dtype="fp16")
    return (add.bytes, add.flops, dot.bytes, dot.flops) == (1200, 100, 3 * 512, 2 * 16**3)


HOLDS = {
    "def adamw_loop(": ("06_adamw", loop_is_the_references),
    "pieces = [": ("06_adamw", pieces_are_the_librarys),
    "half_a_place = ": ("06_adamw", half_places_are_those_of_rounding),
    "def counted(": ("07_performance", counts_bytes_and_flops),
}
BUGS = [
    ("def adamw_loop(", "p.mul_(keep)", "pass"),
    ("def adamw_loop(", "m.lerp_(g, mix1)", "m.lerp_(g, 1 - mix1)"),
    ("def adamw_loop(", "v.mul_(beta2)", "v"),
    ("def adamw_loop(", "addcmul_(g, g,", "addcmul_(g, m,"),
    ("def adamw_loop(", ".div_(root).add_(eps)", ".add_(eps).mul_(root)"),
    ("def adamw_loop(", "value=rate", "value=-rate"),
    ("def adamw_loop(", "LR, BETAS, EPS, DECAY)", "LR, BETAS, EPS, 0.0)"),
    ("pieces = [", "triton.cdiv(n, 256)", "n // 256"),
    ("pieces = [", "(i, j) for i", "(j, i) for i"),
    ("half_a_place = ", "/ 2", "/ 4"),
    ("half_a_place = ", "torch.inf)", "0.0)"),
    ("def counted(", "report.loaded + report.stored", "report.loaded"),
    ("def counted(", "flops or report.dot_flops", "report.dot_flops"),
    ("def counted(", "flops or report.dot_flops", "flops"),
]


@pytest.mark.parametrize("start", HOLDS)
def test_what_is_defined_for_teaching_is_right(start):
    lesson, holds = HOLDS[start]
    assert holds(cell(lesson, start))


@pytest.mark.parametrize(("start", "old", "new"), BUGS)
def test_a_bug_is_noticed_in(start, old, new):
    lesson, holds = HOLDS[start]
    text = cell(lesson, start)
    assert text.count(old) == 1
    assert not holds(text.replace(old, new))
