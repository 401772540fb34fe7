"""The results of a class as files: CSV, JSON, JUnit, and a page for each student."""

import csv
import html
import io
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minift.course.grading.work import Result, Work, as_json
from minift.errors import InputError
from minift.files import read_text, write_json, write_text

NAMES = {"csv": "grades.csv", "json": "grades.json", "junit": "junit.xml", "pages": "feedback"}
_CONTROL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\n")

STYLE = """
:root { color-scheme: light dark; --line: #8884; --right: #2a7d4f; --wrong: #b3402a; }
@media (prefers-color-scheme: dark) { :root { --right: #6cc492; --wrong: #ec8f7a; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid var(--line); padding: .8rem 0; }
h2 { font-size: 1.05rem; margin: 0; display: flex; justify-content: space-between; gap: 1rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .86rem; margin: .5rem 0 0; }
.right b { color: var(--right); } .wrong b { color: var(--wrong); }
"""


def write(folder: Path, graded: Sequence[Work], settings: dict[str, Any]) -> None:
    """All files into ``folder``, which is there and empty."""
    report = {**settings, "students": [as_json(work) for work in graded]}
    write_json(folder / NAMES["json"], report)
    write_text(folder / NAMES["csv"], as_csv(graded))
    write_text(folder / NAMES["junit"], as_junit(graded))
    pages = folder / NAMES["pages"]
    pages.mkdir()
    taken: set[str] = set()
    for work in graded:
        write_text(pages / f"{_file_name(work.student, taken)}.html", page(work))


def as_csv(graded: Sequence[Work]) -> str:
    """A line for each student: name, points, what could be reached, then every exercise."""
    exercises = [r.exercise for r in graded[0].results] if graded else []
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["student", "points", "out_of", *exercises, "remarks"])
    for work in graded:
        each = [_number(r.points) for r in work.results]
        row = [work.student, _number(work.points), _number(work.out_of), *each]
        table.writerow([_cell(c) for c in [*row, "; ".join(work.remarks)]])
    return text.getvalue()


def _cell(text: str) -> str:
    """A spreadsheet takes what begins like a formula for one."""
    text = text.replace("\r", "?")  # csv.writer would not quote it
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _number(points: float) -> str:
    return f"{points:g}"


def as_junit(graded: Sequence[Work]) -> str:
    """A test suite for each student, a test case for each exercise."""
    root = ET.Element("testsuites")
    for work in graded:
        states = Counter(_verdict(r, work) for r in work.results)
        suite = ET.SubElement(root, "testsuite", {
            "name": _clean(work.student),
            "tests": str(len(work.results)),
            "failures": str(states["wrong"]),
            "skipped": str(states["not attempted"]),
            "time": f"{sum(r.seconds for r in work.results):.2f}",
        })  # fmt: skip
        for result in work.results:
            part, _, topic = result.exercise.rpartition(".")
            case = ET.SubElement(suite, "testcase", {
                "classname": part, "name": topic, "time": f"{result.seconds:.2f}",
            })  # fmt: skip
            verdict = _verdict(result, work)
            if verdict == "wrong":
                unread = [] if result.state == "wrong" else list(work.remarks)
                said = "\n".join([*unread, result.message])
                message = result.mistake or (said.strip().splitlines() or [result.state])[0]
                failure = ET.SubElement(case, "failure", {"message": _clean(message)})
                failure.text = _clean(said)
            elif verdict == "not attempted":
                ET.SubElement(case, "skipped")
        if work.remarks:
            ET.SubElement(suite, "system-out").text = _clean("\n".join(work.remarks))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _verdict(result: Result, work: Work) -> str:
    """Work in which nothing could be read has failed: nobody knows what was attempted."""
    nothing_read = work.remarks and not any(r.file for r in work.results)
    return "wrong" if nothing_read else result.state


def _clean(text: str) -> str:
    """Without the characters that XML has no place for."""
    return _CONTROL.sub("?", text)


def page(work: Work) -> str:
    """What one student reads: points, and for each exercise what was found."""
    say = html.escape
    remarks = "".join(f"<p>{say(remark)}</p>" for remark in work.remarks)
    total = f"{_number(work.points)} of {_number(work.out_of)} points"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{say(work.student)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{say(work.student)}</h1>\n"
        f"<p>{total}</p>{remarks}\n{''.join(map(_section, work.results))}</body></html>\n"
    )


def _section(result: Result) -> str:
    say = html.escape
    points = f"{_number(result.points)} / {_number(result.out_of)}"
    kind = result.state.replace(" ", "-")
    return (
        f'<section class="{kind}"><h2><span>{say(result.exercise)}: <b>{say(result.state)}</b>'
        f"</span><span>{points}</span></h2><pre>{say(_clean(result.message))}</pre></section>\n"
    )


def _file_name(student: str, taken: set[str]) -> str:
    """A name that is a file's on every system, and nobody else's."""
    base = re.sub(r"[^\w.-]", "_", student).strip(".").encode()[:100].decode(errors="ignore")
    base = base or "student"
    name, count = base, 1
    while name.lower() in taken:
        count += 1
        name = f"{base}-{count}"
    taken.add(name.lower())
    return name


# ---- looking back at a graded class


def load(folder: Path) -> dict[str, Any]:
    """The JSON of a graded class.

    Raises:
        InputError: the folder holds none.
    """
    path = folder / NAMES["json"] if folder.is_dir() else folder
    try:
        report: dict[str, Any] = json.loads(read_text(path))
        assert all({"student", "points", "out_of"} <= s.keys() for s in report["students"])
        each = [entry for student in report["students"] for entry in student["exercises"]]
        assert all({"exercise", "state", "mistake"} <= entry.keys() for entry in each)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: not the grades of a class; right would be the folder that "
            "`course grade --out` wrote"
        ) from None
    return report


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """Over a class: how each exercise went, with its most frequent mistake, and the points."""
    rows: dict[str, dict[str, Any]] = {}
    mistakes: dict[str, Counter[str]] = {}
    for student in report["students"]:
        for entry in student["exercises"]:
            row = rows.setdefault(entry["exercise"], Counter())
            row[entry["state"]] += 1
            if entry["mistake"]:
                mistakes.setdefault(entry["exercise"], Counter())[entry["mistake"]] += 1
    return {
        "students": len(report["students"]),
        "exercises": [
            {"exercise": n, **c, "mistakes": mistakes.get(n, Counter()).most_common(3)}
            for n, c in rows.items()
        ],
        "points": [[s["student"], s["points"], s["out_of"]] for s in report["students"]],
    }
