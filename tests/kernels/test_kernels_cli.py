"""``import kernels``, ``python -m kernels verify`` and the table: with Triton, and without it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kernels.__main__ import main
from kernels.verification import verify as verify_module
from kernels.verification.table import MachineRow, NumberRow, as_json, format_table
from kernels.verification.verify import verify

ROOT = Path(__file__).resolve().parents[2]


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


WITHOUT_TRITON = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "triton" else real(name, *rest)
"""


def test_import_is_light_and_lazy() -> None:
    done = python(
        "import sys, kernels; assert not {'torch', 'triton'} & sys.modules.keys(); "
        "print(sorted(kernels.__all__), 'attention' in dir(kernels))"
    )
    assert done.stdout.strip().endswith("] True"), done.stderr
    assert "'AdamW'" in done.stdout and "'attention'" in done.stdout


@pytest.mark.parametrize("name", ["attention", "AdamW", "lab"])
def test_without_triton_one_line_says_what_to_do(name: str) -> None:
    use = "import kernels.lab" if name == "lab" else f"from kernels import {name}"
    done = python(
        f"{WITHOUT_TRITON}try:\n    {use}\nexcept ImportError as error:\n    print(error)"
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"kernels.{name} needs Triton, which is not installed")
    assert "Linux" in line and "WSL" in line and "Colab" in line


@pytest.mark.parametrize("command", ["verify", "report", "bench"])
def test_the_command_without_triton(command: str) -> None:
    run = f"from kernels.__main__ import main\nsys.exit(main([{command!r}]))"
    done = python(f"{WITHOUT_TRITON}{run}")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"kernels: error: python -m kernels {command} needs Triton")
    assert len(done.stderr.splitlines()) == 1


def test_tritons_own_interpreter_mode_is_refused() -> None:
    done = python(
        "try:\n    from kernels import attention\nexcept ImportError as e: print(e)",
        TRITON_INTERPRET="1",
    )
    assert "unset the environment variable TRITON_INTERPRET" in done.stdout


def test_the_public_names_stay_what_they_are() -> None:
    """A submodule called ``attention`` would replace the function once it is imported."""
    import kernels.adamw
    import kernels.flash_attention

    assert kernels.attention is kernels.flash_attention.attention
    assert kernels.AdamW is kernels.adamw.AdamW
    with pytest.raises(AttributeError, match="no attribute 'conv2d'"):
        kernels.conv2d  # noqa: B018


# ---- verify


@pytest.fixture
def rows() -> list[Any]:
    """What a verification returns, and all of it holds."""
    number = NumberRow("attention", "fp16", 4, 0.7, 0, 0, 1000, 1000)
    mix = {"fp32": 280, "mma": 16, "exp2": 68, "shuffle": 16}
    machine = MachineRow(
        *("attention forward", "fp16", "D=64", "sm_90", 236, 0, 65536, 0.12, 2),
        tensor_core=32,
        tensor_core_needed=True,
        wide=8,
        mix=mix,
    )
    plain = replace(machine, kernel="adamw", tensor_core=0, tensor_core_needed=False)
    return [number, replace(number, kernel="adamw"), machine, plain]


def test_quick_verification_holds() -> None:
    rows = verify(quick=True)
    assert [row for row in rows if not row.ok] == []
    assert [(row.kernel, row.dtype) for row in rows if isinstance(row, NumberRow)] == [
        (name, dtype) for name, (_, dtypes) in verify_module.KERNELS.items() for dtype in dtypes
    ]
    assert {row.arch for row in rows if isinstance(row, MachineRow)} == {"sm_90"}
    assert list(verify_module.KERNELS) == ["attention", "decode", "adamw", "ladder"]


def test_the_table_shows_every_row(rows: list[Any]) -> None:
    table = format_table(rows)
    lines = table.splitlines()
    assert len(lines) == len(rows) + 3  # two heads and an empty line
    assert lines[0].split()[:4] == ["kernel", "dtype", "cases", "error/bound"]
    assert table.count(" ok") == len(rows) and "FAILED" not in table
    assert "mma:" in table and all(line == line.rstrip() for line in lines)
    assert format_table([]) == ""


def test_the_json_object(rows: list[Any]) -> None:
    data = json.loads(json.dumps(as_json(rows)))
    assert data["ok"] is True and len(data["numbers"]) + len(data["machine"]) == len(rows)
    assert data["machine"][0]["mix"]["mma"] == 16 and data["numbers"][0]["ok"] is True


@pytest.mark.parametrize(
    "fault",
    [
        {"worst_error": 1.01},
        {"worst_error": float("nan")},
        {"out_of_bounds": 1},
        {"races": 1},
        {"bytes_moved": 0},
    ],
)
def test_a_fault_in_the_numbers_fails_the_row(rows: list[Any], fault: dict[str, Any]) -> None:
    bad = replace(rows[0], **fault)
    assert not bad.ok and "FAILED" in format_table([bad]) and as_json([bad])["ok"] is False


@pytest.mark.parametrize(
    "fault",
    [{"registers": 0}, {"spills_in_loop": 1}, {"blocks": 0}, {"tensor_core": 0}, {"wide": 0}],
)
def test_a_fault_in_the_code_fails_the_row(rows: list[Any], fault: dict[str, Any]) -> None:
    row = next(row for row in rows if isinstance(row, MachineRow))
    assert row.ok and not replace(row, **fault).ok


def test_full_verification_covers_all_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    family = SimpleNamespace(
        outcomes=lambda dtype, quick: [],
        shipped=lambda quick: [
            SimpleNamespace(dtype="fp32", variant="", compile=lambda arch: arch)
        ],
    )
    monkeypatch.setitem(verify_module.KERNELS, "adamw", (family, ()))
    monkeypatch.setattr(verify_module, "machine_row", lambda shipped, compiled: compiled)
    assert verify_module.verify(["adamw"]) == ["sm_80", "sm_90", "sm_100", "gfx942"]


# ---- the command


@pytest.fixture
def shown(rows: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The rows that the command gets; a test may put a bad one in."""
    given = list(rows)
    monkeypatch.setattr(verify_module, "verify", lambda *args, **kwargs: given)
    return given


def test_the_command_prints_the_table(shown: list[Any], capsys: pytest.CaptureFixture) -> None:
    assert main(["verify", "--quick"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("kernel ") and "everything holds" in out and err == ""


def test_the_command_exits_with_1_when_something_fails(
    shown: list[Any], capsys: pytest.CaptureFixture
) -> None:
    shown[0] = replace(shown[0], races=2)
    assert main(["verify"]) == 1
    assert f"1 of {len(shown)} rows FAILED" in capsys.readouterr().out
    assert main(["verify", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["ok"] is False and len(out.splitlines()) == 1 and err == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["verify", "atention"],
            "unknown kernel 'atention'; known: attention, decode, adamw, ladder",
        ),
        (
            ["report", "atention"],
            "unknown kernel 'atention'; known: attention, decode, adamw, ladder",
        ),
        (["report", "--arch", "sm_9"], "unknown arch 'sm_9'; known: sm_80, sm_90, sm_100, gfx942"),
        (["report", "--arch"], "argument --arch: expected one argument"),
        (["bench", "gemm"], "unknown kernel 'gemm'; known: attention, decode, adamw, ladder"),
        (["bench", "--arch"], "unrecognized arguments: --arch"),
        ([], "the following arguments are required: COMMAND"),
        (["verify", "--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    try:
        code = main(argv)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2 and out == ""
    assert (
        err.startswith(("kernels: ", "python -m kernels"))
        and message in err
        and len(err.splitlines()) == 1
    )
