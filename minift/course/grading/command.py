"""``python -m minift course grade`` and ``report``: the teacher's side on the command line."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minift.errors import InputError
from minift.files import check_new_folder, new_folder

Say = Callable[[str], None]


def add_grade_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of ``course grade``."""
    sub.add_argument(
        "work", nargs="+", type=Path, metavar="WORK",
        help="a .py or .ipynb file, or a folder with a file or folder for each student",
    )  # fmt: skip
    sub.add_argument("--out", type=Path, metavar="DIR", help="write CSV, JSON, JUnit, pages here")
    sub.add_argument(
        "--exercises", nargs="+", default=[], metavar="NAME", help="names or parts; default: all"
    )
    sub.add_argument("--points", type=Path, metavar="FILE", help='TOML: "attention.scores" = 2')
    sub.add_argument("--jobs", type=int, metavar="N", help="at a time; default: one a core")
    sub.add_argument("--time-limit", type=float, default=60.0, metavar="SECONDS")
    sub.add_argument("--memory", type=float, default=2.0, metavar="GB", help="default: 2")


def run_grade(args: argparse.Namespace, say: Say) -> tuple[Any, bool]:
    """Grade; that answers are wrong is a result, not a failure."""
    from minift.course.grading import feedback
    from minift.course.grading.grade import assignment, grade
    from minift.course.grading.isolation import Limits
    from minift.course.grading.points import read_points
    from minift.course.grading.work import as_json, collect

    for name, value in (("time-limit", args.time_limit), ("memory", args.memory)):
        if not 0 < value < 1e6:
            raise InputError(f"--{name}: {value:g}; right would be a number such as 2")
    if args.jobs is not None and args.jobs < 1:
        raise InputError(f"--jobs: {args.jobs}; right would be 1 or more")
    if args.out is not None:
        check_new_folder("--out", args.out, hint=False)
    limits = Limits(seconds=args.time_limit, memory=int(args.memory * 2**30))
    task = assignment(args.exercises, read_points(args.points), limits)
    work = collect(args.work)
    graded = list(work)
    for count, (place, done) in enumerate(grade(work, task, args.jobs), 1):
        graded[place] = done
        wrong = [r.exercise for r in done.results if r.state == "wrong"]
        more = [f"wrong: {', '.join(wrong)}"] * bool(wrong) + list(done.remarks)
        earned = f"{done.points:g} of {done.out_of:g}"
        say(f"{count:>4}/{len(work)}  {done.student:<24} {earned:<10} {'; '.join(more)}".rstrip())
    settings = {"exercises": dict(task.exercises), "salt": task.salt}
    if args.out is not None:
        with new_folder(args.out) as folder:
            feedback.write(folder, graded, settings)
        say(f"{args.out}: {', '.join(feedback.NAMES.values())}")
    return {**settings, "students": [as_json(w) for w in graded]}, True


def run_report(args: argparse.Namespace, say: Say) -> tuple[Any, bool]:
    """How a graded class did."""
    from minift.course.grading.feedback import load, summary

    found = summary(load(args.folder))
    if not args.json:
        _print(found)
    return found, True


def _print(found: dict[str, Any]) -> None:
    print(f"{'exercise':<28}{'right':>6}{'wrong':>7}{'not attempted':>15}  most frequent mistake")
    for row in found["exercises"]:
        counts = [row.get(state, 0) for state in ("right", "wrong", "not attempted")]
        most = f"{row['mistakes'][0][1]} x {row['mistakes'][0][0]}" if row["mistakes"] else ""
        print(f"{row['exercise']:<28}{counts[0]:>6}{counts[1]:>7}{counts[2]:>15}  {most}".rstrip())
    earned = sorted(points for _, points, _ in found["points"])
    if earned:
        middle = earned[len(earned) // 2]
        sys.stdout.write(
            f"{found['students']} students; points: lowest {earned[0]:g}, median {middle:g}, "
            f"highest {earned[-1]:g}\n"
        )
