"""``minift compare`` on a GGUF file: transformers reads it with its own loader."""

from tiny_gguf import hf_model, write_model

from minift.__main__ import main


def test_the_command_compares_a_gguf_file(tmp_path, capsys):
    write_model(tmp_path / "model.gguf", hf_model("llama"))
    for name in (tmp_path, tmp_path / "model.gguf"):
        assert main(["compare", str(name), "--length", "9", "--batch", "2"]) == 0
        assert capsys.readouterr().out.endswith("ok: every difference is within its tolerance\n")
