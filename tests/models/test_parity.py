"""Ours against ``transformers``, at most four times as far apart as its own two attentions.

``pytest tests/models/test_parity.py -n 0 -rP`` prints the table.
"""

import pytest
from parity import DECODER_FAMILIES, QUANTITIES, measure_decoders, table


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_decoders(family):
    found = measure_decoders(family)
    print(table({family: found}))
    for quantity in QUANTITIES:
        assert 0 < found[quantity].floor < 1e-3, quantity  # a floor, and one that means something
        assert found[quantity].ratio <= 4, (quantity, found[quantity])
