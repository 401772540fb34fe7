"""Folders as ``transformers`` reads and writes them: ours must mean the same, and give the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from token_parity import Compare, compare, unlimited
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from minift.errors import InputError
from minift.text.added_tokens import AddedToken
from minift.text.huggingface import HuggingFaceTokenizer
from minift.text.loading import load_tokenizer
from minift.text.normalize import BertNormalizer
from minift.text.tokenizer import NO_LIMIT
from minift.text.wordpiece_tokenizer import WordPieceConfig, WordPieceTokenizer

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "hello",
    "hel",
    "##lo",
    "world",
    "Hello",
    "É",
    "e",
    "x",
    "##x",
    "中",
    "##中",
    ".",
    "<",
    ">",
]
LETTERS = [mark + letter for letter in "abcdefghijklmnopqrstuvwyz" for mark in ("", "##")]
VOCAB = [*SPECIALS, *WORDS, *(piece for piece in LETTERS if piece not in WORDS)]
TEXT = "Hello É\u0301hellox 中中 [SEP] <e1>world [sep] Foo  bar foo bar. x<X>x [MASK] [NEW]"

MakeFolder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> MakeFolder:
    """Writes files (``vocab_txt="..."``, ``tokenizer_config_json={...}``) and gives the folder."""

    def make(**files: Any) -> Path:
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / ".".join(name.rsplit("_", 1))).write_text(text, encoding="utf-8")
        return tmp_path

    return make


def vocab_txt(tokens: list[str] = VOCAB) -> str:
    return "".join(token + "\n" for token in tokens)


def tokenizer_json(**normalizer: Any) -> dict[str, Any]:
    """A ``tokenizer.json`` of the small vocabulary, by way of our writer, with special tokens."""
    from minift.text.wordpiece_writer import _tokenizer_json

    added = tuple(AddedToken(token, i) for i, token in enumerate(SPECIALS))
    config = WordPieceConfig(normalizer=BertNormalizer(**normalizer), added_tokens=added)
    return _tokenizer_json({token: i for i, token in enumerate(VOCAB)}, config)


def entry(content: str, **flags: Any) -> dict[str, Any]:
    names = ("single_word", "lstrip", "rstrip", "normalized")
    return {"content": content, **dict.fromkeys(names, False), "special": True, **flags}


BERT = {"tokenizer_class": "BertTokenizer"}
SETTINGS: dict[str, dict[str, Any]] = {
    "no options": BERT,
    "cased": {**BERT, "do_lower_case": False},
    "cased without accents": {**BERT, "do_lower_case": False, "strip_accents": True},
    "lower case with accents": {**BERT, "strip_accents": False},
    "Chinese not apart": {**BERT, "tokenize_chinese_chars": False},
    "length": {**BERT, "model_max_length": 77},
    "left": {**BERT, "padding_side": "left", "truncation_side": "left"},
    "clean up": {**BERT, "clean_up_tokenization_spaces": True},
    "DistilBERT": {"tokenizer_class": "DistilBertTokenizer"},
    "MobileBERT": {"tokenizer_class": "MobileBertTokenizerFast"},
    "SqueezeBERT": {"tokenizer_class": "SqueezeBertTokenizer", "strip_accents": False},
    "ELECTRA": {"tokenizer_class": "ElectraTokenizer", "do_lower_case": False},
    "inputs": {**BERT, "model_input_names": ["input_ids", "attention_mask"]},
    "own names": {**BERT, "sep_token": "x", "cls_token": "hello", "mask_token": "world"},
    "extra": {**BERT, "extra_special_tokens": ["<e1>", "world"]},
    "extra, older": {**BERT, "additional_special_tokens": ["<e1>", "world"]},
    "added": {
        **BERT,
        "added_tokens_decoder": {
            str(len(VOCAB)): entry("Foo bar", special=False, normalized=True),
            str(len(VOCAB) + 1): entry("<X>", lstrip=True, rstrip=True),
            str(len(VOCAB) + 2): entry("[NEW]", single_word=True, special=False),
        },
    },
}


def assert_same_folder(path: Path, ours: Any = None) -> None:
    ours = ours or load_tokenizer(path)
    theirs = AutoTokenizer.from_pretrained(path)
    assert isinstance(ours, WordPieceTokenizer)
    for text in (TEXT, TEXT.lower(), "", TEXT * 3):
        right = theirs(text, return_offsets_mapping=True, add_special_tokens=False)
        mine = ours.tokenize(text)
        assert mine.tokens == right.tokens()
        assert (mine.ids, mine.offsets) == (right["input_ids"], right["offset_mapping"])
        assert mine.word_index == right.word_ids()
        ids = ours.encode(text)
        assert ids == theirs(text)["input_ids"]
        for skip in (True, False):
            assert ours.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip)
    batch, right = ours([TEXT, "x"], padding=True), theirs([TEXT, "x"], padding=True)
    assert {name: value.tolist() for name, value in batch.items()} == dict(right)
    assert ours.model_max_length == theirs.model_max_length
    assert (len(ours), ours.vocab_size) == (len(theirs), theirs.vocab_size)
    for name in ("pad_token_id", "cls_token_id", "sep_token_id", "unk_token_id", "mask_token_id"):
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize("name", SETTINGS)
def test_vocab_txt(folder: MakeFolder, name: str) -> None:
    assert_same_folder(folder(vocab_txt=vocab_txt(), tokenizer_config_json=SETTINGS[name]))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("lowercase", [True, False])
def test_tokenizer_json(folder: MakeFolder, name: str, lowercase: bool) -> None:
    data = tokenizer_json(lowercase=lowercase)
    assert_same_folder(folder(tokenizer_json=data, tokenizer_config_json=SETTINGS[name]))


@pytest.mark.parametrize("name", SETTINGS)
def test_save_and_load(folder: MakeFolder, tmp_path: Path, name: str) -> None:
    first = load_tokenizer(folder(vocab_txt=vocab_txt(), tokenizer_config_json=SETTINGS[name]))
    assert isinstance(first, WordPieceTokenizer)
    first.save(tmp_path / "saved")
    second = load_tokenizer(tmp_path / "saved")
    assert isinstance(second, WordPieceTokenizer)
    assert (first.vocab, first.config) == (second.vocab, second.config)
    assert_same_folder(tmp_path / "saved", first)
    second.save(tmp_path / "again")
    for file in sorted((tmp_path / "saved").iterdir()):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_minilm_saved(
    ours: WordPieceTokenizer, theirs: Any, tmp_path: Path, speech_lines: list[str]
) -> None:
    ours.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    assert (tmp_path / "vocab.txt").read_bytes() == (
        "".join(f"{token}\n" for token in ours.vocab).encode()
    )
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.model_max_length == 512
    lines = speech_lines[::300]
    assert again(lines)["input_ids"] == theirs(lines)["input_ids"]
    rust = unlimited(RustTokenizer.from_file(str(tmp_path / "tokenizer.json")))
    compare(ours, rust, lines)
    assert rust.encode("a", "b").ids == theirs("a", "b")["input_ids"]


def test_vocab_txt_of_minilm_alone(folder: MakeFolder, minilm: Path, same: Compare) -> None:
    text = (minilm / "vocab.txt").read_text(encoding="utf-8")
    tokenizer = load_tokenizer(folder(vocab_txt=text.replace("\n", "\r\n")))
    assert isinstance(tokenizer, WordPieceTokenizer)
    assert tokenizer.vocab == load_tokenizer(minilm).vocab  # type: ignore[attr-defined]
    assert tokenizer.model_max_length == NO_LIMIT


def test_older_files_beside_the_vocabulary(folder: MakeFolder) -> None:
    path = folder(
        vocab_txt=vocab_txt(),
        tokenizer_config_json=BERT,
        special_tokens_map_json={"sep_token": "x", "mask_token": entry("world", lstrip=True)},
        added_tokens_json={"Foo bar": len(VOCAB), "<x>": len(VOCAB) + 1},
    )
    ours = load_tokenizer(path)
    assert ours.sep_token_id == VOCAB.index("x")
    assert ours.mask_token_id == VOCAB.index("world")
    theirs = AutoTokenizer.from_pretrained(path)
    text = "Foo BAR x<X>hello  worldly foo bar"
    right = theirs(text, add_special_tokens=False, return_offsets_mapping=True)
    assert ours.tokenize(text).ids == right["input_ids"]
    assert ours.tokenize(text).offsets == right["offset_mapping"]


def test_generic_class_keeps_the_pipeline_of_tokenizer_json(folder: MakeFolder) -> None:
    for name in ("PreTrainedTokenizerFast", "TokenizersBackend"):
        settings = {"tokenizer_class": name, "do_lower_case": True, "model_max_length": 99}
        described = tokenizer_json(lowercase=False)
        path = folder(tokenizer_json=described, tokenizer_config_json=settings)
        ours, theirs = load_tokenizer(path), AutoTokenizer.from_pretrained(path)
        assert ours.tokenize(TEXT).ids == theirs(TEXT, add_special_tokens=False)["input_ids"]
        assert "Hello" in ours.tokenize(TEXT).tokens


def test_tokenizer_json_alone(folder: MakeFolder) -> None:
    path = folder(tokenizer_json=tokenizer_json(lowercase=False))
    ours = load_tokenizer(path)
    assert isinstance(ours, WordPieceTokenizer)
    compare(ours, RustTokenizer.from_file(str(path / "tokenizer.json")), [TEXT, TEXT.upper()])


def test_without_clean_up_control_characters_stay(folder: MakeFolder) -> None:
    path = folder(tokenizer_json=tokenizer_json(clean_text=False))
    rust = RustTokenizer.from_file(str(path / "tokenizer.json"))
    texts = [f"hello{char}x{char} {char}e" for char in map(chr, [*range(0x100), 0x2028, 0xFFFD])]
    compare(load_tokenizer(path), rust, texts)


def framing(single: str, pair: str) -> Any:
    tokens = [("[CLS]", 2), ("[SEP]", 3), ("hello", 5)]
    template = TemplateProcessing(single=single, pair=pair, special_tokens=tokens)
    return json.loads(template.__getstate__())


def test_other_framings_are_left_to_transformers(folder: MakeFolder) -> None:
    usual = framing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    assert usual == tokenizer_json()["post_processor"] | {"special_tokens": usual["special_tokens"]}
    for single, pair in [
        ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:0"),
        ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B:1 [SEP]:1"),
        ("[CLS] $A", "[CLS] $A $B:1"),
    ]:
        path = folder(tokenizer_json=broken(post_processor=framing(single, pair)))
        tokenizer = load_tokenizer(path)
        assert isinstance(tokenizer, HuggingFaceTokenizer)
        assert tokenizer("e", "x")["input_ids"].tolist() == [
            RustTokenizer.from_file(str(path / "tokenizer.json")).encode("e", "x").ids
        ]


def test_special_tokens_come_from_the_framing(folder: MakeFolder) -> None:
    described = broken(post_processor=framing("hello $A [SEP]", "hello $A [SEP] $B:1 [SEP]:1"))
    ours = load_tokenizer(folder(tokenizer_json=described))
    assert isinstance(ours, WordPieceTokenizer) and ours.cls_token_id == 5
    older = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["hello", 5]}
    ours = load_tokenizer(folder(tokenizer_json=broken(post_processor=older)))
    assert isinstance(ours, WordPieceTokenizer) and ours.encode("e") == [5, VOCAB.index("e"), 3]


def test_other_classes_are_left_to_transformers(folder: MakeFolder) -> None:
    tokens = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>", "e", "x"]
    path = folder(
        vocab_txt=vocab_txt(tokens), tokenizer_config_json={"tokenizer_class": "MPNetTokenizer"}
    )
    tokenizer = load_tokenizer(path)
    assert isinstance(tokenizer, HuggingFaceTokenizer)
    assert tokenizer.encode("e") == AutoTokenizer.from_pretrained(path)("e")["input_ids"]


def test_special_tokens_missing_in_tokenizer_json_are_added(folder: MakeFolder) -> None:
    path = folder(tokenizer_json=broken(added_tokens=[]), tokenizer_config_json=BERT)
    assert load_tokenizer(path).tokenize("[SEP]").ids == [3]
    assert_same_folder(path)


def test_loading_by_name(ours: WordPieceTokenizer) -> None:
    import minift

    tokenizer = minift.load_tokenizer("minilm")
    assert tokenizer.encode("Hello!") == ours.encode("Hello!") == [101, 7592, 999, 102]


# -- wrong files --------------------------------------------------------------------------------


def broken(**changes: Any) -> dict[str, Any]:
    data = tokenizer_json()
    for path, value in changes.items():
        *parents, name = path.split("__")
        place = data
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[name]
        else:
            place[name] = value
    return data


GOOD = {"vocab_txt": vocab_txt()}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no files": ({}, r"no tokenizer; right would be tokenizer.json or vocab.txt in it"),
    "other files only": ({"config_json": {}}, r"no tokenizer; right would be"),
    "empty vocabulary": ({"vocab_txt": ""}, r"vocab.txt: the file is empty"),
    "a token twice": (
        {"vocab_txt": vocab_txt([*VOCAB, "hello"])},
        rf"vocab.txt, line {len(VOCAB) + 1}: 'hello' stands already in line 6",
    ),
    "two empty lines": ({"vocab_txt": vocab_txt([*VOCAB, "", ""])}, r"'' stands already in line"),
    "tokens missing": (
        {"vocab_txt": vocab_txt(["[UNK]", "[CLS]", "a"])},
        r"vocab.txt: the vocabulary lacks \[SEP\], \[PAD\]; right would be one with all of",
    ),
    "not JSON": ({"tokenizer_json": '{"a": 1,\n oops}'}, r"tokenizer.json, line 2, column 2: not"),
    "a list": ({"tokenizer_json": "[1]"}, r"tokenizer.json: list found; right would be a JSON obj"),
    "settings not JSON": ({**GOOD, "tokenizer_config_json": "{"}, r"tokenizer_config.json, line 1"),
    "no vocabulary": ({"tokenizer_json": broken(model__vocab=...)}, r"not the layout .*'vocab'"),
    "vocabulary a list": (
        {"tokenizer_json": broken(model__vocab=["a"])},
        r"not an object of token",
    ),
    "ids not whole": ({"tokenizer_json": broken(model__vocab={"a": 0.5})}, r"not an object of tok"),
    "ids with a gap": (
        {"tokenizer_json": broken(model__vocab={"a": 0, "b": 2})},
        r"the ids in model.vocab are not 0 to 1, each once",
    ),
    "an id twice": ({"tokenizer_json": broken(model__vocab={"a": 0, "b": 0})}, r"not 0 to 1, each"),
    "unknown option": (
        {"tokenizer_json": broken(normalizer__lower_case=True)},
        r"tokenizer.json: normalizer option: unknown 'lower_case'.*did you mean 'lowercase'",
    ),
    "option of another type": (
        {"tokenizer_json": broken(normalizer__lowercase="yes")},
        r"normalizer option lowercase: 'yes'; right would be true or false",
    ),
    "switch of another type": (
        {**GOOD, "tokenizer_config_json": {"do_lower_case": 1}},
        r"normalizer option lowercase: 1; right would be true or false",
    ),
    "length not a number": (
        {**GOOD, "tokenizer_config_json": {"model_max_length": "512"}},
        r"model_max_length: '512'; right would be a int",
    ),
    "unknown side": (
        {**GOOD, "tokenizer_config_json": {"padding_side": "rigth"}},
        r"padding_side: unknown 'rigth'; known: right, left; did you mean 'right'",
    ),
    "special token not a text": (
        {**GOOD, "tokenizer_config_json": {"sep_token": 3}},
        r"sep_token: 3; right would be the token's text",
    ),
    "special token not in the vocabulary": (
        {**GOOD, "tokenizer_config_json": {"sep_token": "</s>"}},
        r"the vocabulary lacks </s>",
    ),
    "added token with a wrong flag": (
        {"tokenizer_json": broken(added_tokens=[{"content": "a", "id": 1, "flag": 2}])},
        r"not the layout of a WordPiece tokenizer",
    ),
    "added token with another's id": (
        {"tokenizer_json": broken(added_tokens=[{"content": "new", "id": 5}])},
        r"added token 'new': its id 5 is that of 'hello'",
    ),
    "added token with two ids": (
        {"tokenizer_json": broken(added_tokens=[{"content": "hello", "id": 900}])},
        r"added token 'hello': id 900, but the vocabulary has it as 5",
    ),
    "added tokens a list": (
        {**GOOD, "tokenizer_config_json": {"added_tokens_decoder": ["x"]}},
        r"added_tokens_decoder: not a table of id: token",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files(folder: MakeFolder, name: str) -> None:
    files, message = WRONG[name]
    path = folder(**files)
    with pytest.raises(InputError, match=message) as caught:
        load_tokenizer(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_vocabulary_that_is_not_utf8(folder: MakeFolder) -> None:
    path = folder()
    (path / "vocab.txt").write_bytes(vocab_txt().encode() + b"caf\xe9\n")
    with pytest.raises(InputError, match=rf"vocab.txt, line {len(VOCAB) + 1}: byte 0xe9 is not"):
        load_tokenizer(path)


def test_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder, nor an asset .*minilm"):
        load_tokenizer(tmp_path / "nowhere")
    file = tmp_path / "vocab.txt"
    file.write_text(vocab_txt())
    with pytest.raises(InputError, match=r"vocab.txt: a file; right would be the folder"):
        load_tokenizer(file)
