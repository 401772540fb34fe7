"""CoNLL column files: a word and its columns a line, the tag last, an empty line between sentences.

Format: Tjong Kim Sang & De Meulder 2003 (CoNLL-2003 shared task). Columns are separated by tabs,
or by spaces where a line has no tab; ``-DOCSTART-`` lines are skipped.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minift.data import bio
from minift.errors import InputError
from minift.files import read_text, write_text


@dataclass(frozen=True)
class Sentence:
    """Words with one BIO tag each; ``line`` is where the sentence starts in its file, 1-based."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    line: int = 0


def read_conll(path: str | os.PathLike[str], tags: Collection[str] | None = None) -> list[Sentence]:
    """Sentences of a CoNLL column file: first column the word, last column the BIO tag.

    Args:
        path: the file, UTF-8.
        tags: the tags a model knows; any other is an error.

    Raises:
        InputError: the file cannot be read, is not UTF-8, holds no sentence, has lines with
            different numbers of columns, a tag that is not BIO or not in ``tags``, or an I- tag
            without its B-; the message names file and line, and how many more lines are wrong.
    """
    sentences: list[Sentence] = []
    problems: list[str] = []
    width = 0
    for block in _blocks(read_text(path)):
        previous, words, labels = "O", [], []
        for number, columns in block:
            width = width or len(columns)
            wrong = _problem(columns, width, previous, tags)
            if wrong:
                problems.append(f"{os.fspath(path)}, line {number}: {wrong}")
            words.append(columns[0])
            labels.append(columns[-1])
            previous = columns[-1]
        sentences.append(Sentence(tuple(words), tuple(labels), block[0][0]))
    if problems:
        more = f" (and {len(problems) - 1} more lines are wrong)" if problems[1:] else ""
        raise InputError(problems[0] + more)
    if not sentences:
        raise InputError(f"{os.fspath(path)}: holds no sentence; right would be 'word tag' lines")
    return sentences


def write_conll(path: str | os.PathLike[str], sentences: Iterable[Sentence]) -> None:
    """Write word and tag columns, tab-separated; the file appears whole or not at all."""
    blocks = (
        "".join(f"{word}\t{tag}\n" for word, tag in zip(s.words, s.tags, strict=True))
        for s in sentences
    )
    write_text(Path(path), "\n".join(blocks))


def entity_types(sentences: Iterable[Sentence]) -> list[str]:
    """The entity types that occur, sorted."""
    return sorted({tag[2:] for s in sentences for tag in s.tags if tag != "O"})


def _blocks(text: str) -> Iterator[list[tuple[int, list[str]]]]:
    block: list[tuple[int, list[str]]] = []
    # Not splitlines(): a word may hold U+2028 or U+0085, which end no line here.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line.strip() and not line.startswith("-DOCSTART-"):
            block.append((number, _columns(line)))
        elif block:
            yield block
            block = []


def _columns(line: str) -> list[str]:
    if "\t" in line:
        return line.split("\t")
    return [column for column in line.split(" ") if column]


def _problem(
    columns: list[str], width: int, previous: str, tags: Collection[str] | None
) -> str | None:
    if len(columns) != width:
        return f"{len(columns)} columns, but the file's first line has {width}"
    if width < 2:
        return f"only one column, {columns[0]!r}; right would be a word and its tag"
    if not columns[0].strip():
        return "the word column is empty"
    wrong = bio.problem(columns[-1], previous)
    if wrong:
        return wrong
    if tags is not None and columns[-1] not in tags:
        known = ", ".join(sorted({tag[2:] for tag in tags if tag != "O"}))
        return f"tag {columns[-1]!r} is unknown to the model; its entity types are {known}"
    return None
