"""The README's example of a new exercise is one: short, and its check is worth something."""

import re
from pathlib import Path

import minift
from minift.course import registry
from minift.course.audit import audit

README = Path(minift.__file__).parents[1] / "README.md"


def test_the_example_passes_the_audit(tmp_path, monkeypatch):
    (code,) = re.findall(
        r"^```python\n(\"\"\"attention\.row_sums.*?)^```", README.read_text(), flags=re.S | re.M
    )
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 40
    path = tmp_path / "row_sums.py"
    path.write_text(code)
    space: dict = {"__name__": "row_sums"}
    exec(compile(code, str(path), "exec"), space)
    found = {"attention.row_sums": space["exercise"]}
    for module in ("minift.course.audit", "minift.course.checking"):
        monkeypatch.setattr(f"{module}.find", found.__getitem__)
    rows = list(audit(["attention.row_sums"]))
    assert [row.answer for row in rows if not row.ok] == []
    assert {row.answer for row in rows} >= {"stub", "solution", "columns", "mean", "kept"}
    assert registry.FOLDER.joinpath("attention").is_dir()
