"""Exercises, notebooks and classes: everything under ``python -m minift course``."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from minift.course.grading.command import add_grade_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m minift course``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON object on standard output")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text, parents=[common])

    action("list", "the exercises by name")
    sub = action("check", "examine the functions in your Python file or notebook")
    sub.add_argument("file", type=Path, help="a .py or .ipynb file; it is run")
    sub.add_argument("--time-limit", type=float, default=120.0, metavar="SECONDS")
    add_grade_arguments(action("grade", "grade a class: each answer runs isolated"))
    sub = action("report", "how a graded class did, exercise by exercise")
    sub.add_argument("folder", type=Path, metavar="DIR", help="what grade --out wrote")
    action("progress", "what you have done of the course, and what comes next")
    sub = action("audit", "hold every check against its stub, solution and wrong answers")
    sub.add_argument("exercises", nargs="*", metavar="EXERCISE", help="default: all")
    sub = action("release", "write the students' edition: no solutions in it")
    sub.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    sub.add_argument("--only", nargs="+", metavar="NAME", help="parts and exercises; default: all")
    sub.add_argument("--no-hints", action="store_true", help="leave the hints out, too")
    sub = action("export-nbgrader", "write the course in the form that nbgrader takes")
    sub.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    sub.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="default: all")
    sub.add_argument("--points", type=Path, metavar="FILE", help='TOML: "attention.scores" = 2')
    sub = action("build", "run the sources in notebooks/_source and write the notebooks")
    sub.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="default: all")
    sub = action("site", "write the course as a static site, offline, from the stored notebooks")
    sub.add_argument("folder", type=Path, metavar="DIR", help="a new folder, or an earlier site")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when everything that was checked holds, else 1."""
    actions = {"list": _list, "check": _check, "progress": _progress}
    actions |= {"audit": _audit, "build": _build, "release": _release}
    actions |= {"grade": _grade, "report": _report, "export-nbgrader": _export}
    actions |= {"site": _site}
    report, ok = actions[args.action](args)
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    return 0 if ok else 1


def _say(args: argparse.Namespace, text: str) -> None:
    """For people: on standard output, or on standard error when that holds JSON."""
    print(text, file=sys.stderr if args.json else sys.stdout, flush=True)


def _list(args: argparse.Namespace) -> tuple[Any, bool]:
    from minift.course.registry import find, names
    from minift.errors import InputError

    report = []
    width = max(map(len, names()), default=0) + 2
    for name in names():
        try:
            title = find(name).title
        except InputError as error:  # it needs a package that is not here
            title = str(error)
        report.append({"exercise": name, "title": title, "function": name.rpartition(".")[2]})
        if not args.json:
            print(f"{name:<{width}}{title}")
    return {"exercises": report}, True


def _check(args: argparse.Namespace) -> tuple[Any, bool]:
    from minift.course import submission
    from minift.errors import InputError

    if not args.time_limit > 0:
        raise InputError(
            f"--time-limit: {args.time_limit:g} is not a number of seconds; right would be 120"
        )
    remarks: list[str] = []
    found = submission.examine_file(args.file, args.time_limit, remarks)
    if not args.json:
        print("\n\n".join([*(entry["message"] for entry in found), *remarks]))
    right = all(entry["state"] == "right" for entry in found)
    return {"exercises": found, "remarks": remarks}, right and not remarks


def _grade(args: argparse.Namespace) -> tuple[Any, bool]:
    from minift.course.grading.command import run_grade

    return run_grade(args, lambda text: _say(args, text))


def _export(args: argparse.Namespace) -> tuple[Any, bool]:
    from minift.course.edition.nbgrader import export
    from minift.course.grading.points import read_points

    report = export(args.folder, args.notebooks, read_points(args.points))
    for entry in report["assignments"]:
        worth = ", ".join(f"{n} {p:g}" for n, p in entry["exercises"].items())
        _say(args, f"{entry['assignment']}: {worth}")
    return report, True


def _report(args: argparse.Namespace) -> tuple[Any, bool]:
    from minift.course.grading.command import run_report

    return run_report(args, lambda text: _say(args, text))


def _progress(args: argparse.Namespace) -> tuple[Any, bool]:
    from minift.course.progress_report import state

    now = state()
    if not args.json:
        print(now)
    return now.as_json(), True


def _audit(args: argparse.Namespace) -> tuple[Any, bool]:
    from dataclasses import asdict

    from minift.course.audit import audit, totals

    rows = []
    for row in audit(args.exercises):
        rows.append(row)
        line = f"{row.exercise:<30} {row.answer:<28} {row.state:<15}{row.seconds:6.2f} s"
        _say(args, line if row.ok else f"{line}  SLIPPED ({row.said or 'nothing said'})")
    _say(args, totals(rows))
    slipped = [row for row in rows if not row.ok]
    exercises = _counted(len({row.exercise for row in rows}), "exercise")
    _say(args, f"{exercises}, {len(rows)} answers, {len(slipped)} judged wrongly")
    return {"answers": [asdict(row) for row in rows], "slipped": len(slipped)}, not slipped


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _release(args: argparse.Namespace) -> tuple[Any, bool]:
    from minift.course.edition.release import release

    report = release(args.folder, args.only, not args.no_hints, lambda text: _say(args, text))
    count = ", ".join(_counted(len(report[what]), what[:-1]) for what in ("exercises", "notebooks"))
    size = f"{report['files']} files, {report['bytes'] / 1e6:.1f} MB"
    behind = f"; not handed out: {', '.join(report['left_out'])}" if report["left_out"] else ""
    _say(args, f"{args.folder}: {count}, {size}{behind}")
    return report, True


def _build(args: argparse.Namespace) -> tuple[Any, bool]:
    from minift.course.lessons.anatomy import problems
    from minift.course.lessons.notebooks import all_sources, build, notebook_of, source_of
    from minift.course.lessons.overview import refresh

    found: dict[str, list[str]] = {}
    for source in [source_of(name) for name in args.notebooks] or all_sources():
        target = notebook_of(source)
        build(source, target)
        found[target.name] = problems(source)
        _say(args, "\n".join([f"{target.name}: built", *(f"  {p}" for p in found[target.name])]))
    if refresh():
        _say(args, "README.md: its table of notebooks is written anew")
    return {"notebooks": found}, not any(found.values())


def _site(args: argparse.Namespace) -> tuple[Any, bool]:
    from minift.course.site import build

    report = build(args.folder)
    pages = f"{len(report['pages'])} notebooks, {report['images']} figures"
    _say(args, f"{args.folder / 'index.html'}: {pages}, {report['bytes'] / 1e6:.1f} MB")
    return report, True
