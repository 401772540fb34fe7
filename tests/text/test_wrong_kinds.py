"""What is no text and what are no ids: a line each, for every tokenizer of ours."""

import numpy as np
import pytest
import torch
from tiny_tokenizers import TEXT, byte_level

from minift.errors import InputError
from minift.text.bpe_training import train_bpe
from minift.text.char_tokenizer import CharTokenizer


def pairs():
    """Byte-level BPE of ours; ``byte_level`` is Hugging Face's."""
    return train_bpe([TEXT], 300)


def characters():
    return CharTokenizer.train([TEXT], unk_token="<unk>", pad_token="<pad>")


MAKERS = [byte_level, pairs, characters]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.5], "ids: [1.5] given; right would be whole numbers"),
        (["a"], "ids: ['a'] given; right would be whole numbers"),
        ("12", "ids: str given; right would be a list of ids"),
        (None, "ids: NoneType given; right would be a list of ids"),
        (3, "ids: int given; right would be a list of ids"),
        (torch.tensor([0.5]), "ids: [0.5] given; right would be whole numbers"),
    ],
    ids=str,
)
def test_what_are_no_ids(make, ids, message):
    with pytest.raises(InputError) as caught:
        make().decode(ids)
    assert str(caught.value) == message


@pytest.mark.parametrize("make", MAKERS)
def test_ids_of_other_kinds(make):
    tokenizer = make()
    ids = tokenizer.encode("the cat")
    for same in (tuple(ids), np.array(ids), torch.tensor(ids), list(np.array(ids)), iter(ids)):
        assert tokenizer.decode(same) == tokenizer.decode(ids)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("given", [None, 5, b"x"], ids=str)
def test_what_is_no_text(make, given):
    kind = type(given).__name__
    with pytest.raises(InputError, match=f"text: {kind} given; right would be"):
        make()(given)
    if given is not None:
        with pytest.raises(InputError, match=f"text_pair: {kind} given; right would be"):
            make()("a", given)
