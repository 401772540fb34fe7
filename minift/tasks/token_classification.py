"""Token classification: one label a word, from which entities are read (NER, PII detection).

Hugging Face: ``BertForTokenClassification`` and its example ``run_ner``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minift.data.batches import Batch, length_buckets, pad
from minift.data.bio import tag_list
from minift.data.conll import Sentence, entity_types
from minift.errors import InputError
from minift.text.tokenizer import Tokenizer
from minift.training.config import TrainConfig

IGNORED = -100  # torch's cross-entropy leaves out labels of this value


@dataclass(frozen=True)
class Example:
    """One encoded sentence: ids with [CLS] and [SEP], a label for each id, and each word's place.

    ``first_piece[w]`` is the position in ``input_ids`` of word ``w``'s first piece, or None if
    the word has no piece (it holds nothing but characters that the tokenizer drops).
    """

    input_ids: list[int]
    labels: list[int]
    first_piece: list[int | None]


def label_names(sentences: Sequence[Sentence]) -> list[str]:
    """The label set that training sentences ask for: ``O`` and B-/I- of every type in them.

    Raises:
        InputError: there is no entity in them.
    """
    types = entity_types(sentences)
    if not types:
        raise InputError("train: no word is tagged as an entity; right would be some B- tags")
    return tag_list(types)


def align(tags: Sequence[int], word_of_piece: Sequence[int | None]) -> list[int]:
    """Labels of pieces: a word's label on its first piece, -100 on the rest and on [CLS], [SEP].

    Args:
        tags: the label of each word.
        word_of_piece: the word each piece comes from; None for special tokens.
    """
    previous: int | None = None
    labels = []
    for word in word_of_piece:
        labels.append(tags[word] if word is not None and word != previous else IGNORED)
        previous = word
    return labels


def encode(
    sentences: Sequence[Sentence],
    tokenizer: Tokenizer,
    labels: Sequence[str],
    max_length: int,
    source: str = "sentences",
) -> list[Example]:
    """Encode labelled sentences.

    Raises:
        InputError: a tag is not among ``labels``, or a sentence has more than ``max_length``
            pieces with [CLS] and [SEP]; names ``source`` and the line.
    """
    index = {label: i for i, label in enumerate(labels)}
    return [_encode(s, tokenizer, index, max_length, source) for s in sentences]


def _encode(
    sentence: Sentence, tokenizer: Tokenizer, index: dict[str, int], max_length: int, source: str
) -> Example:
    where = f"{source}, line {sentence.line}" if sentence.line else source
    unknown = [tag for tag in sentence.tags if tag not in index]
    if unknown:
        raise InputError(f"{where}: tag {unknown[0]!r} is unknown; known: {', '.join(index)}")
    pieces, words = tokenizer.tokenize_words(list(sentence.words))
    if len(pieces) + 2 > max_length:
        raise InputError(
            f"{where}: the sentence has {len(pieces)} word pieces, but the model takes "
            f"{max_length - 2} besides [CLS] and [SEP]; right would be shorter sentences"
        )
    word_of_piece = [None, *words, None]
    labels = align([index[tag] for tag in sentence.tags], word_of_piece)
    first: list[int | None] = [None] * len(sentence.words)
    for position in range(len(word_of_piece) - 1, -1, -1):
        word = word_of_piece[position]
        if word is not None:
            first[word] = position
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    if cls is None or sep is None:
        raise InputError("tokenizer: has no [CLS] or no [SEP]; right would be a BERT tokenizer")
    ids = [cls, *pieces, sep]
    return Example(ids, labels, first)


def collate(examples: Sequence[Example], pad_token_id: int) -> Batch:
    """``input_ids``, ``attention_mask`` and ``labels``, each ``(B, T)`` int64."""
    return {
        "input_ids": pad([e.input_ids for e in examples], pad_token_id),
        "attention_mask": pad([[1] * len(e.input_ids) for e in examples], 0),
        "labels": pad([e.labels for e in examples], IGNORED),
    }


def batches_of(
    examples: Sequence[Example], config: TrainConfig, pad_token_id: int
) -> Callable[[int], list[Batch]]:
    """The training batches of each epoch: the same for the same seed, whatever the model."""
    lengths = [len(e.input_ids) for e in examples]

    def batches(epoch: int) -> list[Batch]:
        order = length_buckets(lengths, config.batch_size, seed=config.seed * 1009 + epoch)
        return [collate([examples[i] for i in rows], pad_token_id) for rows in order]

    return batches


@torch.inference_mode()
def predict_tags(
    model: nn.Module,
    examples: Sequence[Example],
    labels: Sequence[str],
    pad_token_id: int,
    batch_size: int = 64,
) -> list[list[str]]:
    """The most probable tag of every word; a word without a piece gets ``O``."""
    model.eval()
    tags: list[list[str]] = [[]] * len(examples)
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].input_ids))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = collate([examples[i] for i in rows], pad_token_id)
        batch.pop("labels")
        best: Tensor = model(**batch).logits.argmax(-1)  # (B, T)
        for row, i in enumerate(rows):
            places = examples[i].first_piece
            tags[i] = ["O" if p is None else labels[int(best[row, p])] for p in places]
    return tags
