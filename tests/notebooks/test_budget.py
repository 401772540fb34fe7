"""Time and memory of a notebook: read from its opening, held against a run; and no network."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minift.course.lessons.budget import (
    FORM,
    TOTAL_SECONDS,
    Budget,
    Spent,
    overdrawn,
    peak_memory,
    stated,
    stated_in,
    table,
)  # fmt: skip
from minift.course.lessons.notebooks import FOLDER, all_sources, notebook_of
from minift.course.lessons.offline import NetworkRefused

BUDGET = Budget(minutes=90, seconds=15, gigabytes=1.0)
NEEDS_PROC = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc"
)
NOTEBOOKS = [notebook_of(source) for source in all_sources()]


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        (f"*{FORM}*", BUDGET),
        ("*20 minutes to read; 5 seconds to\nrun on two CPU cores, with 600 MB of memory.*",
         Budget(20, 5, 0.6)),
        ("*9 minutes; 5 seconds to run on two CPU cores, with 1.5 GB of memory*", None),
        ("10 minutes, 500 MB", None),
        ("90 minutes of it; 15 seconds to run on two CPU cores", None),
    ],
)  # fmt: skip
def test_a_budget_is_read_from_one_form_of_words(text, budget):
    assert stated(text) == budget


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_states_a_budget(notebook):
    assert stated_in(notebook) is not None


def test_all_notebooks_together_stay_within_ten_minutes():
    assert sum(stated_in(notebook).seconds for notebook in NOTEBOOKS) <= TOTAL_SECONDS == 600


def test_what_is_within_the_budget_is_fine():
    assert overdrawn("a", BUDGET, Spent(60.0, 1.0)) is None
    assert overdrawn("a", BUDGET, Spent(60.0, None)) is None


@pytest.mark.parametrize(
    ("spent", "words"),
    [
        (
            Spent(60.1, 0.1),
            "1/a: its cells ran 60 s, and it states 15 s (a slow machine may take 4",
        ),
        (Spent(1.0, 1.01), "1/a: its kernel took 1.01 GB of memory, and it states 1 GB; make it"),
    ],
)
def test_what_is_beyond_it_is_told_with_both_numbers(spent, words):
    assert overdrawn("1/a", BUDGET, spent).startswith(words)


def test_table():
    lines = table([("b", None, Spent(2.0, None)), ("a", BUDGET, Spent(10.06, 0.504))])
    assert [line.split() for line in lines[1:]] == [
        ["a", "15", "10.1", "1", "0.50"],
        ["b", "-", "2.0", "-", "-"],
        ["all", "2,", "one", "after", "another", "15", "12.1"],
    ]


@NEEDS_PROC
def test_the_peak_is_seen_after_the_memory_was_given_back():
    code = "x = bytearray(300_000_000); del x; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        peak = peak_memory(child.pid)
        child.communicate(b"\n")
    assert 0.3 < peak < 0.5
    assert peak_memory(2**22 + 1) is None


# ---- under pytest


SHORT = "9 minutes …; 1 seconds to run on two CPU cores, with 1 GB of memory"


def run(tmp_path, *cells, budget=SHORT, options=()):
    """What pytest says of a notebook with these cells, and its lines of the closing table."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("conftest.py", "sanitize.cfg"):
        shutil.copy(FOLDER / name, folder)
    code = [new_code_cell(source, execution_count=1) for source in cells]
    nbformat.write(new_notebook(cells=[new_markdown_cell(budget), *code]), folder / "a.ipynb")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--color=no", "-n1"]
    command += [
        "--nbval",
        "--nbval-current-env",
        f"--basetemp={tmp_path / 'inner'}",
        *options,
        "notebooks/a.ipynb",
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    out = f"{done.stdout}{done.stderr}exit code {done.returncode}"
    found = re.findall(r"^(PASSED|FAILED) .*::(Cell \d+|budget)", done.stdout, flags=re.M)
    return {name: word for word, name in found}, out


def test_a_notebook_within_its_budget_passes_and_stands_in_the_table(tmp_path):
    verdicts, out = run(tmp_path, "x = 1")
    assert verdicts == {"Cell 0": "PASSED", "budget": "PASSED"}, out
    assert re.search(r"^a +1 +0\.\d +1 +0\.\d\d$", out, flags=re.M), out


def test_too_long_is_a_failure_of_its_own(tmp_path):
    verdicts, out = run(tmp_path, "import time", "time.sleep(4.2)")
    assert verdicts == {"Cell 0": "PASSED", "Cell 1": "PASSED", "budget": "FAILED"}, out
    assert "a: its cells ran 4 s, and it states 1 s" in out


@NEEDS_PROC
def test_too_much_memory_is_a_failure_of_its_own(tmp_path):
    words = "9 minutes …; 9 seconds to run on two CPU cores, with 300 MB of memory"
    verdicts, out = run(tmp_path, "x = bytearray(400_000_000); del x", budget=words)
    assert verdicts["budget"] == "FAILED", out
    assert re.search(r"a: its kernel took 0\.\d\d GB of memory, and it states 0\.3 GB", out), out


def test_a_dead_kernel_leaves_a_row_without_memory(tmp_path):
    cells = ("import os\nos._exit(1)", "x = 1")
    verdicts, out = run(tmp_path, *cells, options=["--nbval-cell-timeout=2"])
    assert verdicts["Cell 0"] == "FAILED", out
    assert re.search(r"^a +1 +\d+\.\d +1 +-$", out, flags=re.M), out


def test_a_notebook_of_ones_own_needs_no_budget(tmp_path):
    verdicts, out = run(tmp_path, "x = 1", budget="My notes")
    assert verdicts == {"Cell 0": "PASSED", "budget": "PASSED"}, out
    assert re.search(r"^a +- +0\.\d +- +0\.\d\d$", out, flags=re.M), out


CONNECT = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=30)"
LOCAL = """server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()"""


def test_a_cell_that_reaches_for_another_machine_fails_at_once(tmp_path):
    verdicts, out = run(tmp_path, CONNECT, LOCAL)
    assert verdicts == {"Cell 0": "FAILED", "Cell 1": "PASSED", "budget": "PASSED"}, out
    plain = re.sub(r"\x1b\[[\d;]*m", "", out)
    assert "NetworkRefused: network: 192.0.2.1 is another machine" in plain


# ---- in this process, as in every test


@pytest.mark.parametrize(
    "reach",
    [
        lambda s: s.create_connection(("192.0.2.1", 80), timeout=30),
        lambda s: s.socket().connect_ex(("192.0.2.1", 80)),
        lambda s: s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
        lambda s: s.getaddrinfo("example.org", 443),
        lambda s: s.gethostbyname(b"example.org"),
        lambda s: s.gethostbyaddr("192.0.2.1"),
        lambda s: s.socket(s.AF_INET, s.SOCK_DGRAM).sendmsg([b"x"], [], 0, ("192.0.2.1", 53)),
        lambda s: s.getaddrinfo("2001:db8::1", 443),
        lambda s: s.socket(s.AF_INET6).connect(("2001:db8::1", 80)),
    ],
    ids=[
        "connection",
        "connect_ex",
        "sendto",
        "name",
        "bytes",
        "address",
        "sendmsg",
        "v6 name",
        "v6",
    ],
)
def test_no_way_out(reach):
    with pytest.raises(NetworkRefused, match="is another machine; tests and notebooks run without"):
        reach(socket)


def test_an_error_that_libraries_do_not_take_for_a_bad_line():
    import urllib.request

    with pytest.raises(NetworkRefused):
        urllib.request.urlopen("http://192.0.2.1/", timeout=30)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_can_be_reached(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"no {host} here")
    with server:
        socket.create_connection((host, server.getsockname()[1])).close()
        assert socket.getaddrinfo(host, 80)
        assert socket.getaddrinfo(None, 80)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_unix_sockets_are_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # their names are short
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        server.listen()
        client.connect("s")
