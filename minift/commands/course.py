"""Exercises and notebooks: list, check, audit, build."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any


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
    sub = action("audit", "hold every check against its stub, solution and wrong answers")
    sub.add_argument("exercises", nargs="*", metavar="EXERCISE", help="default: all")
    sub = action("build", "run the sources in notebooks/_source and write the notebooks")
    sub.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="default: all")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when everything that was checked holds, else 1."""
    actions = {"list": _list, "check": _check, "audit": _audit, "build": _build}
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
    for name in names():
        try:
            title = find(name).title
        except InputError as error:  # it needs a package that is not here
            title = str(error)
        report.append({"exercise": name, "title": title, "function": name.rpartition(".")[2]})
        if not args.json:
            print(f"{name:<26}{title}")
    return {"exercises": report}, True


def _check(args: argparse.Namespace) -> tuple[Any, bool]:
    from minift.course import submission
    from minift.errors import InputError

    if not args.time_limit > 0:
        raise InputError(
            f"--time-limit: {args.time_limit:g} is not a number of seconds; right would be 120"
        )
    found = submission.examine_file(args.file, args.time_limit)
    if not args.json:
        print("\n\n".join(entry["message"] for entry in found))
    return {"exercises": found}, all(entry["state"] == "right" for entry in found)


def _audit(args: argparse.Namespace) -> tuple[Any, bool]:
    from dataclasses import asdict

    from minift.course.audit import audit

    rows = []
    for row in audit(args.exercises):
        rows.append(row)
        line = f"{row.exercise:<26}{row.answer:<28}{row.state:<15}{row.seconds:6.2f} s"
        _say(args, line if row.ok else f"{line}  SLIPPED ({row.said or 'nothing said'})")
    slipped = [row for row in rows if not row.ok]
    exercises = len({row.exercise for row in rows})
    plural = "s" * (exercises != 1)
    _say(args, f"{exercises} exercise{plural}, {len(rows)} answers, {len(slipped)} judged wrongly")
    return {"answers": [asdict(row) for row in rows], "slipped": len(slipped)}, not slipped


def _build(args: argparse.Namespace) -> tuple[Any, bool]:
    from minift.course.anatomy import problems
    from minift.course.notebooks import all_sources, build, notebook_of, source_of

    found: dict[str, list[str]] = {}
    for source in [source_of(name) for name in args.notebooks] or all_sources():
        target = notebook_of(source)
        build(source, target)
        found[target.name] = problems(source)
        _say(args, "\n".join([f"{target.name}: built", *(f"  {p}" for p in found[target.name])]))
    return {"notebooks": found}, not any(found.values())
