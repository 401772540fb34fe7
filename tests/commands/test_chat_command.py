"""``minift chat`` from a pipe and at a terminal, with good and with bad input."""

import builtins
import io
import json
import sys

import pytest
import torch
from tiny_gpt2 import hf_gpt2
from tiny_tokenizers import byte_level

import minift
from minift.__main__ import main
from minift.generation import chat as conversation
from minift.text.huggingface import HuggingFaceTokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'][0] }}>{{ m['content'] }}|{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """A folder with a tiny random GPT-2 of 90 positions, a byte-level tokenizer and a template."""
    folder = tmp_path_factory.mktemp("talker")
    hf = hf_gpt2(vocab_size=len(byte_level()), n_positions=90, eos_token_id=0)
    minift.save(minift.from_hf(hf), folder)
    byte_level().save(folder)
    tokenizer = HuggingFaceTokenizer.load(folder).hf
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def feed(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def talk(capsys, folder, *arguments):
    assert main(["chat", str(folder), "--max-new-tokens", "8", *arguments]) == 0
    return capsys.readouterr()


def said(folder, *messages, **options):
    """What the model answers to messages, by ``generate`` and the template written out by hand."""
    model, tokenizer = minift.load(folder), minift.load_tokenizer(folder)
    text = "".join(f"<{role[0]}>{content}|" for role, content in messages) + "<a>"
    ids = torch.tensor([tokenizer.encode(text)])
    new = model.generate(ids, max_new_tokens=8, eos_token_id=0, **options)[0, ids.shape[1] :]
    return tokenizer.decode(new, skip_special_tokens=True)


def test_a_conversation_from_a_pipe(talker, capsys, monkeypatch):
    feed(monkeypatch, "the cat\n\nthe dog\n")
    output = talk(capsys, talker, "--json", "--system", "be")
    rows = [json.loads(line) for line in output.out.splitlines()]
    assert [row["question"] for row in rows] == ["the cat", "the dog"]
    before = [("system", "be"), ("user", "the cat")]
    assert rows[0]["answer"] == said(talker, *before)
    before += [("assistant", rows[0]["answer"]), ("user", "the dog")]
    assert rows[1]["answer"] == said(talker, *before)
    assert output.err == ""
    feed(monkeypatch, "the cat\nthe dog\n")
    plain = talk(capsys, talker, "--system", "be").out
    assert plain == "".join(f"{row['answer']}\n" for row in rows)


def test_exit_ends_it(talker, capsys, monkeypatch):
    feed(monkeypatch, "the cat\n /exit \nthe dog\n")
    assert len(talk(capsys, talker, "--json").out.splitlines()) == 1
    feed(monkeypatch, "")
    assert talk(capsys, talker).out == ""


def test_a_seed_draws_the_same(talker, capsys, monkeypatch):
    outputs = []
    for seed in ("1", "1", "2"):
        feed(monkeypatch, "the cat\nthe dog\n")
        outputs.append(talk(capsys, talker, "--seed", seed, "--temperature", "1.5").out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_what_is_forgotten_is_said(talker, capsys, monkeypatch):
    feed(monkeypatch, "".join(f"the cat sat on the mat {turn}\n" for turn in range(6)))
    output = talk(capsys, talker, "--json")
    rows = [json.loads(line) for line in output.out.splitlines()]
    assert [row["forgotten"] for row in rows][:2] == [0, 0]
    lost = [row["forgotten"] for row in rows if row["forgotten"]]
    right = [f"(the {n} oldest messages no longer fit and are forgotten)" for n in lost]
    assert lost
    assert output.err.splitlines() == right


def at_a_terminal(monkeypatch, *lines):
    """Standard input as a terminal at which these lines are typed; an exception is raised."""
    waiting = iter([*lines, EOFError()])

    def typed(prompt=""):
        line = next(waiting)
        if not isinstance(line, str):
            raise line
        return line

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(builtins, "input", typed)


@pytest.mark.parametrize("end", ["/exit", EOFError(), KeyboardInterrupt()], ids=repr)
def test_at_a_terminal(talker, capsys, monkeypatch, end):
    at_a_terminal(monkeypatch, "the cat", "", end, "the dog")
    output = talk(capsys, talker)
    assert output.out == said(talker, ("user", "the cat")) + "\n"
    assert output.err.startswith("/exit or Ctrl-D ends the conversation, Ctrl-C stops an answer.\n")
    assert "Traceback" not in output.err


def test_ctrl_c_stops_the_answer_only(talker, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        yield "so far"
        raise KeyboardInterrupt

    whole = conversation.stream
    streams = iter([interrupted, whole])
    monkeypatch.setattr(conversation, "stream", lambda *a, **o: next(streams)(*a, **o))
    at_a_terminal(monkeypatch, "the cat", "the dog")
    first, second = talk(capsys, talker).out.splitlines()
    assert first == "so far"
    known = [("user", "the cat"), ("assistant", "so far"), ("user", "the dog")]
    assert second == said(talker, *known)


def test_a_question_that_is_too_long(talker, capsys, monkeypatch):
    long = "x" * 100
    feed(monkeypatch, f"{long}\nthe cat\n")
    assert main(["chat", str(talker)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "more than the model's 90 positions leave room for; right: a shorter one" in error
    at_a_terminal(monkeypatch, long, "the cat")
    output = talk(capsys, talker)  # a person can go on
    assert output.out == said(talker, ("user", "the cat")) + "\n"
    assert "leave room for" in output.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-p", "3"], "top_p: 3.0; right: above 0 and at most 1 (every token)"),
        (["--max-new-tokens", "0"], "max_new_tokens: 0; right: at least 1"),
    ],
    ids=str,
)
def test_wrong_options_are_one_line(talker, capsys, monkeypatch, arguments, message):
    feed(monkeypatch, "the cat\n")
    assert main(["chat", str(talker), *arguments]) == 2
    assert capsys.readouterr().err == f"minift: error: {message}\n"


def test_a_model_without_a_template(tmp_path, capsys):
    minift.save(minift.from_hf(hf_gpt2(vocab_size=len(byte_level()))), tmp_path)
    byte_level().save(tmp_path)
    assert main(["chat", str(tmp_path)]) == 2
    right = "model: its tokenizer has no chat template; right: a chat model, or `generate`"
    assert capsys.readouterr().err == f"minift: error: {right}\n"
