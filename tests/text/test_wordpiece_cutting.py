"""The greedy loop alone, against the Rust model on small made-up vocabularies."""

import random

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.decoders import WordPiece as Decoder
from tokenizers.models import WordPiece as RustWordPiece

from minift.text import wordpiece_tokenizer
from minift.text.decode import join_pieces
from minift.text.wordpiece import WordPiece
from minift.text.wordpiece_tokenizer import WordPieceTokenizer


def test_the_example_of_the_docstring(ours: WordPieceTokenizer) -> None:
    assert ours.tokenize("unaffable").tokens == ["una", "##ffa", "##ble"]


@pytest.mark.parametrize("seed", range(30))
def test_random_vocabularies(seed: int) -> None:
    rng = random.Random(seed)
    prefix = rng.choice(["##", "@", "▁▁"])
    vocab = {"[UNK]": 0}
    for _ in range(rng.randint(3, 40)):
        piece = "".join(rng.choices("abc", k=rng.randint(1, 4)))
        vocab.setdefault(piece if rng.random() < 0.5 else prefix + piece, len(vocab))
    longest = rng.choice([3, 8, 100])
    ours = WordPiece(vocab, prefix=prefix, max_chars=longest)
    theirs = RustTokenizer(
        RustWordPiece(
            vocab,
            unk_token="[UNK]",
            continuing_subword_prefix=prefix,
            max_input_chars_per_word=longest,
        )
    )
    for _ in range(200):
        word = "".join(rng.choices("abcd", weights=[4, 4, 4, 0.2], k=rng.randint(1, 12)))
        right = theirs.encode(word)
        pieces = [(id_, *span) for id_, span in zip(right.ids, right.offsets, strict=True)]
        assert ours(word) == pieces, (word, vocab)


def test_the_longest_piece_wins_even_if_the_rest_is_then_unknown() -> None:
    vocab = {"[UNK]": 0, "ab": 1, "abc": 2, "##cd": 3}
    assert WordPiece(vocab)("abcd") == [(0, 0, 4)]
    assert WordPiece(vocab)("abc") == [(2, 0, 3)]


def test_the_longest_token_of_the_vocabulary_is_found() -> None:
    assert WordPiece({"[UNK]": 0, "abcdefgh": 1, "a": 2})("abcdefgh") == [(1, 0, 8)]
    assert WordPiece({"[UNK]": 0, "a": 1, "##bcdefgh": 2})("abcdefgh") == [(1, 0, 1), (2, 1, 8)]


def test_pieces_that_hold_the_prefix_twice_are_joined_as_the_library_joins_them() -> None:
    tokens = ["##a", "##b##c", "d", "####", "##", "e", "##.", "."]
    assert join_pieces(tokens) == Decoder().decode(tokens) == "##ab##c d## e.."


def test_the_cache_is_bounded_and_changes_nothing(
    ours: WordPieceTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wordpiece_tokenizer, "CACHE_SIZE", 10)
    monkeypatch.setattr(wordpiece_tokenizer, "CACHE_LONGEST", 6)
    small = WordPieceTokenizer(ours.vocab, ours.config)
    words = [f"w{i}" for i in range(45)] * 2 + ["unaffable", "x" * 500]
    for word in words:
        assert small.tokenize(word) == ours.tokenize(word)
        assert len(small._cache) <= 10
    assert max(map(len, small._cache)) <= 6
