"""Real prose: every sentence of two hundred years of speeches, ids and offsets."""

from conftest import Compare

from minift.text.wordpiece_tokenizer import WordPieceTokenizer


def test_every_sixth_line_of_the_speeches(same: Compare, speech_lines: list[str]) -> None:
    lines = speech_lines[::6]
    assert len(lines) > 10_000
    assert same(lines) == len(lines)


def test_whole_speeches(same: Compare, speech_lines: list[str]) -> None:
    same("\n".join(speech_lines[i : i + 200]) for i in range(1, 60_000, 4000))


def test_encode_gives_the_same_ids_as_tokenize(
    ours: WordPieceTokenizer, speech_lines: list[str]
) -> None:
    for line in speech_lines[::400]:
        ids = ours.tokenize(line).ids
        assert ours.encode(line, add_special_tokens=False) == ids
        assert ours.encode(line) == [101, *ids, 102]
