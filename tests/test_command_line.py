"""``python -m minift`` as a process: fast help, one-line errors, closed pipes."""

import importlib
import subprocess
import sys

import pytest

from minift.__main__ import COMMANDS, main


def run(*arguments, **options):
    command = [sys.executable, "-m", "minift", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_a_module(name, capsys):
    module = importlib.import_module(f"minift.commands.{name}")
    assert module.__doc__
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert "usage: minift" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = (
        "import sys, minift.__main__ as m\n"
        "for name in m.COMMANDS: m.build_parser([name])\n"
        "print([n for n in ('torch', 'transformers', 'triton', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_unknown_command_is_one_line_and_exit_code_2():
    done = run("tarin")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "invalid choice: 'tarin'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_error():
    script = (
        f"{sys.executable} -m minift assets list | head -1 > /dev/null; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "0"
    assert done.stderr == ""
