"""kernels.attention in fp16 against fp64: every feature, every pair of features, ragged shapes.

The bounds are in ``kernels/verification/attention_bounds.py``; ``test_mutants.py`` shows what they
catch. One file a dtype, so that two workers share the grid.
"""

import pytest
import torch
from attention_helpers import assert_passes

from kernels.verification.attention import feature_cases, shape_cases

FEATURES = feature_cases(torch.float16)
SHAPES = shape_cases(torch.float16)


@pytest.mark.parametrize("name", FEATURES)
def test_features_alone_and_in_pairs(name: str) -> None:
    assert_passes(FEATURES[name])


@pytest.mark.parametrize("name", SHAPES)
def test_ragged_shapes_and_head_dims(name: str) -> None:
    assert_passes(SHAPES[name])
