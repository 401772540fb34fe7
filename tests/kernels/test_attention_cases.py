"""The grid is what it claims to be, and the tiles that users get pass it too."""

from itertools import combinations
from pathlib import Path

import pytest
import torch
from attention_helpers import assert_passes
from mutants import Mutant, mutated

from kernels.verification.attention import (
    DTYPES,
    FEATURES,
    AttentionCase,
    check_attention,
    feature_cases,
    shape_cases,
)
from kernels.verification.attention_cases import LAYOUTS


def test_there_are_300_cases_and_every_pair_of_features() -> None:
    cases = {
        (name, case): dtype
        for dtype in DTYPES.values()
        for make in (feature_cases, shape_cases)
        for name, case in make(dtype).items()
    }
    assert len(cases) >= 300
    for dtype in DTYPES.values():
        made = feature_cases(dtype)
        assert set(made) == {*FEATURES, *map(" + ".join, combinations(FEATURES, 2))}
        for name, case in made.items():
            for feature in name.split(" + "):
                later = FEATURES[name.split(" + ")[-1]]
                wanted = {k: v for k, v in (FEATURES[feature] | later).items() if k != "batch"}
                assert all(getattr(case, k) == v for k, v in wanted.items()), name


def test_the_grid_covers_lengths_head_dims_and_layouts() -> None:
    cases = [*feature_cases(torch.float32).values(), *shape_cases(torch.float32).values()]
    assert {case.layout for case in cases} == set(LAYOUTS)
    assert {8, 16, 24, 64, 80, 128, 256} <= {case.d for case in cases}
    assert any(case.m == 1 for case in cases) and any(case.n == 1 for case in cases)
    assert any(case.m > case.n for case in cases) and any(case.m < case.n for case in cases)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [64, 256])
def test_the_shipped_layouts(dtype: str, d: int) -> None:
    """Tiles as launched on a GPU, over more than one tile of queries and of keys."""
    assert_passes(AttentionCase(150, 140, d, DTYPES[dtype], causal=True, heads=1, blocks=None))


@pytest.mark.parametrize("m", [1, 15, 16, 17, 31, 33, 48])
def test_every_alignment_of_the_causal_edge(m: int) -> None:
    """Each length against tiles of 16: edges on, just before and just behind a tile's border."""
    for n in (1, 15, 16, 17, 33):
        assert_passes(AttentionCase(m, n, 8, causal=True, heads=1, backward=False, seed=n))


@pytest.mark.parametrize("window", [1, 2, 15, 16, 17, 32, 100])
@pytest.mark.parametrize("causal", [False, True])
def test_every_alignment_of_the_window(window: int, causal: bool) -> None:
    for m, n in ((33, 49), (40, 20)):
        case = AttentionCase(m, n, 8, causal=causal, window=window, heads=1, backward=False)
        assert_passes(case)


@pytest.mark.parametrize("bias", ["", "b", "h", "m", "n", "bh", "mn", "bmn", "bhn", "bhmn"])
def test_every_broadcast_of_the_bias(bias: str) -> None:
    outcome = check_attention(AttentionCase(9, 21, 8, bias=bias or "1", batch=2, seed=len(bias)))
    assert outcome.passed, outcome.ratio


_KEYS = "k_tile = load_tile(row_of(k, b, h // GROUP, there), k, keys < at.N, D, BLOCK_D, MASK)"
_FULL = "for n in range(full_low, full_high):\n"
_EDGES = "for n in range(full_low - low + end - full_high):\n        start = edge_tile(n,"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (_KEYS, f"{_KEYS}\n        {_KEYS}"),
        (_FULL, "for m in range(2 * full_low, 2 * full_high):\n        n = m // 2\n"),
        (
            _EDGES,
            _EDGES.replace("range(", "range(2 * (").replace("):", ")):").replace("n,", "n//2,"),
        ),
    ],
    ids=["keys of a tile", "full tiles", "tiles at the edges"],
)
def test_a_bias_gradient_that_reads_twice_is_noticed(old: str, new: str, tmp_path: Path) -> None:
    """The numbers are right all the same: only the bytes tell."""
    case = AttentionCase(40, 50, 8, causal=True, batch=2, bias="mn", seed=1)
    with mutated("flash_attention", Mutant("bias_gradient.py", old, new), tmp_path) as package:
        outcome = check_attention(case, package)
    assert outcome.ratio <= 1 and outcome.report.ok
    assert outcome.bytes_moved > 1.02 * outcome.bytes_needed


def test_options_have_tiles_of_their_own() -> None:
    """The shipped tiles of a call with a bias, whose traffic is held like that of the others."""
    assert_passes(AttentionCase(150, 140, 64, torch.float16, heads=1, bias="mn", blocks=None))
