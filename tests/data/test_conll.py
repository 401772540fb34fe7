"""CoNLL files: round trips, the variants that exist, and one clear line for each kind of damage."""

import pytest

from minift.data.conll import Sentence, entity_types, read_conll, write_conll
from minift.errors import InputError


def write(tmp_path, text):
    path = tmp_path / "data.conll"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_round_trip(tmp_path):
    sentences = [
        Sentence(("Anna", "Lee", "lives", "in", "Rome"), ("B-P", "I-P", "O", "O", "B-L"), 1),
        Sentence(("#", "x\u2028y", "a\u0085b", "日本"), ("O", "O", "O", "B-L"), 7),
    ]
    write_conll(tmp_path / "x.conll", sentences)
    assert read_conll(tmp_path / "x.conll") == sentences
    assert entity_types(sentences) == ["L", "P"]


def test_conll_2003_columns_docstart_and_windows_lines(tmp_path):
    text = (
        "-DOCSTART- -X- -X- O\r\n\r\nEU NNP B-NP B-ORG\r\nrejects VBZ B-VP O\r\n\r\n\r\nHi UH O O"
    )
    assert read_conll(write(tmp_path, text)) == [
        Sentence(("EU", "rejects"), ("B-ORG", "O"), 3),
        Sentence(("Hi",), ("O",), 7),
    ]


def test_tab_separated_words_may_hold_spaces_and_a_byte_order_mark_is_dropped(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbf1 000 000\tO\n")
    assert read_conll(path) == [Sentence(("1 000 000",), ("O",), 1)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\nb X O\n", "line 2: 3 columns, but the file's first line has 2"),
        ("a X O\n\nb O\n", "line 3: 2 columns, but the file's first line has 3"),
        ("alone\n", "line 1: only one column, 'alone'"),
        ("a O\nb I-PER\n", "line 2: I-PER without a B-PER before it"),
        ("a B-PER\n\nb I-PER\n", "line 3: I-PER without a B-PER before it"),
        ("a PER\n", "line 1: 'PER' is not a BIO tag"),
        ("a B-LOC\n", "line 1: tag 'B-LOC' is unknown to the model; its entity types are PER"),
        ("a I-X\nb I-Y\nc I-Z\n", "(and 2 more lines are wrong)"),
        ("\tO\n", "line 1: the word column is empty"),
        ("", "the file is empty"),
        (" \n\n", "the file is empty"),
        ("-DOCSTART- O\n", "holds no sentence"),
        (b"a O\nb\xff O\n", "line 2: byte 0xff is not UTF-8"),
    ],
)
def test_malformed_files_name_the_line(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(InputError) as error:
        read_conll(path, tags=["O", "B-PER", "I-PER"])
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_old_line_ends(tmp_path):
    assert read_conll(write(tmp_path, "a B-X\rb O\r\rc O\r")) == [
        Sentence(("a", "b"), ("B-X", "O"), 1),
        Sentence(("c",), ("O",), 4),
    ]


def test_only_tabs_and_spaces_part_columns(tmp_path):
    text = "a\u2028b  O\n1\u00a0000 O\n"
    assert read_conll(write(tmp_path, text))[0].words == ("a\u2028b", "1\u00a0000")


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_conll(tmp_path / "absent.conll")
    with pytest.raises(InputError, match="cannot be read"):
        read_conll(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.conll"
    write_conll(path, [Sentence(("a",), ("O",))])
    with pytest.raises(ValueError):
        write_conll(path, [Sentence(("a", "b"), ("O",))])
    assert path.read_text() == "a\tO\n"
    assert list(tmp_path.iterdir()) == [path]
