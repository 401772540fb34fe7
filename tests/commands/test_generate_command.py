"""``minift generate`` as a user runs it, with good and with bad input."""

import errno
import io
import json
import sys

import pytest
import torch
import transformers
from tiny_gpt2 import hf_gpt2
from tiny_tokenizers import byte_level, characters

import minift
from minift.__main__ import main
from minift.generation.cache import KVCache


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A folder with a tiny random GPT-2 and a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("writer")
    minift.save(minift.from_hf(hf_gpt2(vocab_size=len(byte_level()), eos_token_id=0)), folder)
    byte_level().save(folder)
    return folder


def written(folder, prompt, **options):
    """What the command should write after a prompt."""
    model, tokenizer = minift.load(folder), minift.load_tokenizer(folder)
    ids = torch.tensor([tokenizer.encode(prompt)])
    text = model.generate(ids, tokenizer=tokenizer, **options)[0, ids.shape[1] :]
    return tokenizer.decode(text, skip_special_tokens=True)


def run(capsys, *arguments):
    assert main(["generate", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def feed(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {"max_new_tokens": 30}),
        (["--num-beams", "3"], {"max_new_tokens": 30, "num_beams": 3}),
        (["--repetition-penalty", "1.5"], {"max_new_tokens": 30, "repetition_penalty": 1.5}),
        (["--stop", "e", "--stop", "a"], {"max_new_tokens": 30, "stop_strings": ["e", "a"]}),
    ],
    ids=str,
)
def test_it_writes_what_generate_gives(writer, capsys, arguments, options):
    got = run(capsys, writer, "--prompt", "the cat", "--max-new-tokens", 30, *arguments)
    text = written(writer, "the cat", **options)
    assert got == f"the cat{text}\n"
    assert text


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--temperature", "2.5"], {"temperature": 2.5}),
        (["--top-k", "3"], {"top_k": 3}),
        (["--top-p", "0.7"], {"top_p": 0.7}),
        (["--min-p", "0.3"], {"min_p": 0.3}),
        ([], {}),
    ],
    ids=str,
)
def test_one_word_about_drawing_draws(writer, capsys, arguments, options):
    short = ["--prompt", "the", "--max-new-tokens", "20", "--json"]
    got = json.loads(run(capsys, writer, *short, "--seed", "7", *arguments))
    torch.manual_seed(7)
    options = {"do_sample": True, "max_new_tokens": 20, **options}
    assert got == {"prompt": "the", "text": written(writer, "the", **options)}


def test_each_line_is_a_prompt(writer, capsys, monkeypatch):
    lines = "the cat\n\nnaïve 😀\r\nthe"
    feed(monkeypatch, lines.encode())
    rows = [json.loads(line) for line in run(capsys, writer, "--json").splitlines()]
    assert [row["prompt"] for row in rows] == ["the cat", "naïve 😀", "the"]
    tokenizer = byte_level()
    for row in rows:  # 40 positions
        room = 40 - len(tokenizer.encode(row["prompt"]))
        assert row["text"] == written(writer, row["prompt"], max_new_tokens=room)
    feed(monkeypatch, b"the cat\nthe\n")
    plain = run(capsys, writer)
    assert plain == "".join(f"{row['prompt']}{row['text']}\n" for row in (rows[0], rows[2]))


def test_a_prompt_draws_the_same_alone_and_among_others(writer, capsys, monkeypatch):
    feed(monkeypatch, b"the cat\nthe\n")
    both = run(capsys, writer, "--json", "--seed", 3).splitlines()
    assert json.loads(both[1]) == json.loads(
        run(capsys, writer, "--json", "--seed", 3, "--prompt", "the")
    )


def test_pieces_are_shown_while_it_writes(writer, monkeypatch):
    shown = []

    class Screen(io.StringIO):
        def flush(self):
            shown.append(self.getvalue())

    monkeypatch.setattr(sys, "stdout", Screen())
    assert main(["generate", str(writer), "--prompt", "the"]) == 0
    assert len(set(shown)) > 10
    assert shown[0] == "the"


def test_an_empty_prompt_begins_a_text(tmp_path, capsys):
    tokenizer = characters()
    for bos in (3, None):
        hf = hf_gpt2(vocab_size=len(tokenizer), bos_token_id=bos)
        minift.save(minift.from_hf(hf), tmp_path)
        tokenizer.save(tmp_path)
        code = main(["generate", str(tmp_path), "--prompt", ""])
        output = capsys.readouterr()
        assert code == (0 if bos else 2)
    assert output.err == "minift: error: prompt: no token in it; right: some text to continue\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-p", "0"], "top_p: 0.0; right: above 0 and at most 1 (every token)"),
        (["--top-p", "1.5"], "top_p: 1.5; right: above 0 and at most 1 (every token)"),
        (["--top-k", "-1"], "top_k: -1; right: at least 1, or 0 to keep every token"),
        (
            ["--temperature", "0"],
            "temperature: 0.0; right: above 0, or do_sample=False for the most probable token",
        ),
        (["--num-beams", "0"], "num_beams: 0; right: at least 1"),
        (["--max-new-tokens", "0"], "max_new_tokens: 0; right: at least 1"),
        (["--stop", ""], "stop_strings: ('',); right: texts, none of them empty"),
        (
            ["--max-new-tokens", "40"],
            "max_new_tokens: 1 prompt tokens and 40 new ones are more than the model's 40 "
            "positions; right: at most 39, or a shorter prompt",
        ),
    ],
    ids=str,
)
def test_wrong_options_are_one_line(writer, capsys, arguments, message):
    assert main(["generate", str(writer), "--prompt", "the", *arguments]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", f"minift: error: {message}\n")


def test_wrong_options_are_refused_before_anything_is_read(capsys, monkeypatch):
    feed(monkeypatch, b"")
    for command in ("generate", "chat"):
        assert main([command, "smollm2", "--max-new-tokens", "0"]) == 2
        assert capsys.readouterr().err == "minift: error: max_new_tokens: 0; right: at least 1\n"


def test_a_text_longer_than_a_rotary_model_was_trained_on(tmp_path, capsys):
    config = transformers.LlamaConfig(
        vocab_size=len(byte_level()), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, max_position_embeddings=30, eos_token_id=0,
    )  # fmt: skip
    minift.save(minift.from_hf(transformers.LlamaForCausalLM(config)), tmp_path)
    byte_level().save(tmp_path)
    for wanted in (31, 10**12):
        asked = ["generate", str(tmp_path), "--prompt", "a", "--max-new-tokens", str(wanted)]
        assert main(asked) == 2
        output = capsys.readouterr()
        assert output.out == "" and "the model's 30 positions; right: at most 29" in output.err
    assert main(["generate", str(tmp_path), "--prompt", "a"]) == 0  # 50 where they fit


def test_no_memory_and_no_disk(writer, capsys, monkeypatch):
    with torch.no_grad(), pytest.raises(minift.InputError, match="cache: no memory for 10000000"):
        KVCache(10**15).update(0, torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("builtins.print", full)
    monkeypatch.setattr("minift.__main__._silence", lambda: None)
    monkeypatch.setattr("minift.__main__.print", lambda *a, file: file.write(a[0]), raising=False)
    assert main(["generate", str(writer), "--prompt", "the"]) == 2
    assert capsys.readouterr().err == "minift: error: output: No space left on device"


@pytest.mark.parametrize("option", [["--top-k", "many"], ["--seed", "-1"], ["--seed", "9" * 30]])
def test_a_number_that_is_none(writer, capsys, option):
    with pytest.raises(SystemExit) as stop:
        main(["generate", str(writer), *option])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_model_that_continues_no_text(tmp_path, capsys, tiny_encoder):
    assert main(["generate", str(tiny_encoder), "--prompt", "a"]) == 2
    error = capsys.readouterr().err
    assert "is a BertModel, which continues no text; right: a causal language model" in error
    sizes = {"vocab_size": len(byte_level()), "d_model": 16, "d_kv": 4, "d_ff": 20, "num_layers": 1}
    config = transformers.T5Config(**sizes, num_heads=2, decoder_start_token_id=0)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    byte_level().save(tmp_path / "t5")
    assert main(["generate", str(tmp_path / "t5"), "--prompt", "a"]) == 2
    assert "is a T5ForConditionalGeneration, which continues no text" in capsys.readouterr().err
    assert main(["generate", str(tmp_path / "nowhere"), "--prompt", "a"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
