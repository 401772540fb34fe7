"""finetune, evaluate and predict as a user runs them, with good and with bad input."""

import io
import json
import sys

import pytest
from safetensors.torch import load_file, save_file

from minift.__main__ import main
from minift.data import pii

TRAIN = "Anna B-PER\nlives O\nin O\nRome B-LOC\n\nBob B-PER\nLee I-PER\nleft O\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "train.conll").write_text(TRAIN)
    (tmp_path / "valid.conll").write_text("Anna B-PER\nleft O\n")
    return tmp_path


def finetune(files, tiny_encoder, *extra, out="out"):
    arguments = ["finetune", "ner", "--train", files / "train.conll", "--valid"]
    arguments += [files / "valid.conll", "--model", tiny_encoder, "--out", files / out, *extra]
    return main([str(a) for a in arguments])


def one_line(capsys):
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("minift: error: ")
    assert output.err.count("\n") == 1
    return output.err


def test_a_model_learns_two_sentences_and_is_used(files, tiny_encoder, capsys, monkeypatch):
    (files / "valid.conll").write_text(TRAIN)
    settings = ["--epochs", "60", "--learning-rate", "0.01", "--dropout", "0", "--json"]
    assert finetune(files, tiny_encoder, *settings, "--test", files / "train.conll") == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["test"]["f1"] == metrics["valid"]["f1"] == 1.0
    assert len(metrics["history"]["steps"]) == 60
    assert metrics["history"]["steps"][-1]["loss"] < 0.1
    saved = json.loads((files / "out" / "metrics.json").read_text())
    assert saved["test"] == metrics["test"]

    model = ["--model", str(files / "out")]
    assert main(["evaluate", "ner", *model, "--test", str(files / "train.conll"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entities"]["PER"]["gold"] == 2

    text = b"Anna lives in Rome\n\nBob Lee left\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main(["predict", "token-classification", *model]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [[(e["type"], e["text"]) for e in row["entities"]] for row in rows] == [
        [("PER", "Anna"), ("LOC", "Rome")],
        [],
        [("PER", "Bob Lee")],
    ]
    entity = rows[0]["entities"][1]
    assert rows[0]["text"][entity["start"] : entity["end"]] == "Rome"


def test_accumulation_patience_and_text_output(files, tiny_encoder, capsys):
    settings = ["--epochs", "9", "--batch-size", "1", "--accumulation-steps", "2"]
    assert (
        finetune(files, tiny_encoder, *settings, "--patience", "1", "--learning-rate", "1e-7") == 0
    )
    assert "all entities" in capsys.readouterr().out
    history = json.loads((files / "out" / "metrics.json").read_text())["history"]
    assert history["stopped_early"]
    assert len(history["evaluations"]) == 2
    assert len(history["steps"]) == 2


def test_embedded_data_is_the_default(tiny_encoder, tmp_path, monkeypatch, capsys):
    small = pii.load_splits(1, per_type=1, valid_fillings=1, test_fillings=1)

    def short(sentences):
        return [s for s in sentences if len(s.words) < 40]

    small = pii.Splits(short(small.train), short(small.valid), short(small.test), small.types)
    monkeypatch.setattr(pii, "load_splits", lambda: small)
    out = tmp_path / "out"
    arguments = ["--model", str(tiny_encoder), "--out", str(out), "--epochs", "1", "--json"]
    assert main(["finetune", "ner", *arguments]) == 0
    assert len(json.loads(capsys.readouterr().out)["test"]["entities"]) >= 16


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\nb O O\n", "train.conll, line 2: 3 columns, but the file's first line has 2"),
        ("a I-PER\n", "train.conll, line 1: I-PER without a B-PER before it"),
        ("a PERSON\n", "train.conll, line 1: 'PERSON' is not a BIO tag"),
        ("", "train.conll: the file is empty"),
        (b"a O\nb\xe9 O\n", "train.conll, line 2: byte 0xe9 is not UTF-8"),
        ("a O\n", "train: no word is tagged as an entity"),
        ("a B-PER\n" + "b O\n" * 130, "train.conll, line 1: the sentence has 131 word pieces"),
    ],
)
def test_malformed_training_files(files, tiny_encoder, capsys, content, message):
    data = content if isinstance(content, bytes) else content.encode()
    (files / "train.conll").write_bytes(data)
    assert finetune(files, tiny_encoder) == 2
    assert message in one_line(capsys)
    assert not (files / "out").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--batch-size", "0"], "batch_size: given 0; right would be 1 or more"),
        (["--epochs", "0"], "epochs: given 0"),
        (["--learning-rate", "-1"], "learning_rate: given -1.0"),
        (["--weight-decay", "inf"], "weight_decay: given inf"),
        (["--learning-rate", "1e30"], "right would be a smaller learning rate than 1e+30"),
        (["--test", "absent.conll"], "absent.conll: no such file"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_wrong_settings(files, tiny_encoder, capsys, extra, message):
    assert (
        finetune(files, tiny_encoder, *extra, "--epochs", "0" if "--epochs" in extra else "5") == 2
    )
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err.splitlines()[-1]
    assert sorted(p.name for p in files.iterdir()) == ["train.conll", "valid.conll"]


def test_tags_that_training_never_saw(files, tiny_encoder, capsys):
    (files / "valid.conll").write_text("Anna B-DOG\n")
    assert finetune(files, tiny_encoder) == 2
    assert "tag 'B-DOG' is unknown to the model; its entity types are LOC, PER" in one_line(capsys)


def test_output_folders_that_cannot_be(files, tiny_encoder, capsys):
    (files / "full").mkdir()
    (files / "full" / "thesis.txt").write_text("years of work")
    assert finetune(files, tiny_encoder, out="full") == 2
    assert "is not empty; name a new folder or pass --overwrite" in one_line(capsys)
    assert (files / "full" / "thesis.txt").read_text() == "years of work"
    assert finetune(files, tiny_encoder, out="absent/deep") == 2
    assert "--out: cannot write to" in one_line(capsys)
    assert finetune(files, tiny_encoder, out="train.conll") == 2
    assert "is a file; right would be a folder's name" in one_line(capsys)


def test_a_tagger_is_trained_further_or_refused(files, tiny_encoder, capsys):
    assert finetune(files, tiny_encoder, "--epochs", "1") == 0
    tagger = files / "out"
    assert finetune(files, tagger, "--epochs", "1", out="more") == 0
    capsys.readouterr()
    (files / "train.conll").write_text("a B-DOG\nb O\n")
    (files / "valid.conll").write_text("a B-DOG\n")
    assert finetune(files, tagger, out="other") == 2
    assert "is a tagger of LOC, PER; it has no DOG" in one_line(capsys)


def test_damaged_models(files, tiny_encoder, capsys):
    assert finetune(files, tiny_encoder, "--epochs", "1") == 0
    capsys.readouterr()
    path = files / "out" / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "classifier.bias": tensors["classifier.bias"] * float("nan")}, path)
    arguments = ["evaluate", "ner", "--model", str(files / "out")]
    assert main([*arguments, "--test", str(files / "valid.conll")]) == 2
    assert "classifier.bias holds numbers that are not finite" in one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "nerr", "--out", "x"], "task: unknown 'nerr'"),
        (["finetune", "ner", "--out", "x", "--valid", "v"], "--train: missing"),
        (["finetune", "ner", "--out", "x", "--train", "t"], "--valid: missing"),
        (["evaluate", "ner", "--model", "nowhere", "--test", "t"], "nowhere"),
        (["predict", "ner", "--model", "minilm"], "holds a BertModel; right would be"),
    ],
)
def test_unknown_tasks_and_missing_things(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["", "frobnicate", "finetune", "finetune ner",
                                  "finetune ner --out x --epochs two"])  # fmt: skip
def test_arguments_that_do_not_parse(line, capsys):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "error: " in error


def test_stdin_that_is_not_text(files, tiny_encoder, capsys, monkeypatch):
    assert finetune(files, tiny_encoder, "--epochs", "1") == 0
    capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["predict", "ner", "--model", str(files / "out")]) == 2
    assert "standard input: is closed" in one_line(capsys)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\nbad \xff\n")))
    assert main(["predict", "ner", "--model", str(files / "out")]) == 2
    output = capsys.readouterr()
    assert "standard input, line 2: byte 0xff is not UTF-8" in output.err
    long = ("a " * 130).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(long)))
    assert main(["predict", "ner", "--model", str(files / "out")]) == 2
    assert "standard input, line 1: the sentence has 130 word pieces" in capsys.readouterr().err
