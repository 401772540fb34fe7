"""Encoder-decoders against their references, at most four times as far apart as rounding.

``pytest tests/models/test_parity_seq2seq.py -n 0 -rP`` prints the table.
"""

import pytest
from parity import QUANTITIES, table
from parity_seq2seq import measure_2017, measure_t5

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")


@pytest.mark.parametrize(("family", "measure"), [("T5", measure_t5), ("2017", measure_2017)])
def test_encoder_decoders(family, measure):
    found = measure()
    print(table({family: found}))
    for quantity in QUANTITIES:
        assert 0 < found[quantity].floor < 1e-3, quantity
        assert found[quantity].ratio <= 4, (quantity, found[quantity])
