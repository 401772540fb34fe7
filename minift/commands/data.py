"""The labelled sentences that a command works on: the user's files, or the embedded data."""

from typing import TYPE_CHECKING

from minift.errors import InputError

if TYPE_CHECKING:
    from minift.data.conll import Sentence


def read_splits(
    train: str | None, valid: str | None, test: str | None
) -> "tuple[list[Sentence], list[Sentence], list[Sentence] | None]":
    """Training, validation and test sentences; without any file, the embedded PII data.

    Raises:
        InputError: a file is missing or malformed, or ``valid`` or ``test`` has a tag that
            ``train`` does not have.
    """
    if train is None:
        if valid or test:
            raise InputError("--train: missing; right would be a CoNLL file beside --valid/--test")
        from minift.data import pii

        splits = pii.load_splits()
        return splits.train, splits.valid, splits.test
    if valid is None:
        raise InputError("--valid: missing; right would be a CoNLL file to choose the best epoch")
    from minift.data.conll import read_conll
    from minift.tasks.token_classification import label_names

    sentences = read_conll(train)
    known = label_names(sentences)
    return sentences, read_conll(valid, known), read_conll(test, known) if test else None
