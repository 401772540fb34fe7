"""Files appear whole or not at all; reading says what is wrong."""

import os
import subprocess
import sys

import pytest

from minift.errors import InputError, one_of
from minift.files import check_new_folder, new_folder, read_text, write_json, write_text


class Stop(Exception):
    pass


def test_new_folder_appears_only_when_the_block_ends(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(Stop), new_folder(target) as folder:
        (folder / "half.txt").write_text("half")
        assert not target.exists()
        raise Stop
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as folder:
        (folder / "a.txt").write_text("a")
    assert [p.name for p in target.iterdir()] == ["a.txt"]


def test_new_folder_replaces_an_old_one_whole(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with pytest.raises(Stop), new_folder(target) as folder:
        (folder / "new.txt").write_text("new")
        raise Stop
    assert [p.name for p in target.iterdir()] == ["old.txt"]
    with new_folder(target) as folder:
        (folder / "new.txt").write_text("new")
    assert [p.name for p in target.iterdir()] == ["new.txt"]
    assert list(tmp_path.iterdir()) == [target]
    assert os.stat(target).st_mode & 0o777 == 0o755


def test_an_old_folder_comes_back_when_the_new_one_cannot_be_placed(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    real = os.replace

    def fails_for_the_new_one(source, destination):
        if destination == target and os.path.exists(os.path.join(source, "new.txt")):
            raise OSError("cannot place it")
        real(source, destination)

    monkeypatch.setattr(os, "replace", fails_for_the_new_one)
    with pytest.raises(OSError, match="cannot place it"), new_folder(target) as folder:
        (folder / "new.txt").write_text("new")
    assert [p.name for p in target.iterdir()] == ["old.txt"]
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    target = tmp_path / "out"
    code = (
        "import os, sys; from minift.files import new_folder\n"
        "with new_folder(sys.argv[1]) as f: (f / 'half').write_text(''); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(target)], timeout=60)
    (left,) = tmp_path.iterdir()
    living = tmp_path / f".out.{os.getpid()}.abc"
    living.mkdir()
    (tmp_path / ".out.txt").write_text("mine")
    with new_folder(target):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [living.name, ".out.txt", "out"]
    assert not left.exists()


def test_write_text_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_json_keeps_unicode(tmp_path):
    write_json(tmp_path / "a.json", {"é": [1, 2.5]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8").startswith('{\n  "é": [')


def test_check_new_folder(tmp_path):
    check_new_folder("--out", tmp_path / "new")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        check_new_folder("--out", tmp_path / "file")
    with pytest.raises(InputError, match="is not empty"):
        check_new_folder("--out", tmp_path)
    check_new_folder("--out", tmp_path, overwrite=True)
    with pytest.raises(InputError, match="empty name"):
        check_new_folder("--out", "")
    with pytest.raises(InputError, match="cannot write to"):
        check_new_folder("--out", "/proc/new")
    with pytest.raises(InputError, match="cannot write to"):
        check_new_folder("--out", tmp_path / "absent" / "deep")


def test_read_text_without_and_with_problems(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfhi\n")
    assert read_text(path) == "hi\n"
    path.write_bytes(b"one line \x80")
    with pytest.raises(InputError) as error:
        read_text(path)
    assert str(error.value) == f"{path}: byte 0x80 is not UTF-8; right would be UTF-8 text"


def test_messages_are_one_line_and_suggest():
    assert str(InputError("a\n  b")) == "a b"
    many = [f"name{i}" for i in range(40)]
    assert str(one_of("x", "name77", many)) == (
        "x: unknown 'name77'; did you mean 'name7'? 40 are known: name0, name1, name2 …"
    )
    message = str(one_of("asset", "minilmm", ["minilm", "sotu"]))
    assert message == "asset: unknown 'minilmm'; known: minilm, sotu; did you mean 'minilm'?"
    assert "did you mean" not in str(one_of("asset", "zzz", ["minilm"]))
