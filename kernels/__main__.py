"""``python -m kernels verify | report | bench``: the kernels' numbers, machine code and time.

Exit codes: 0 everything holds; 1 something does not; 2 the input is wrong or Triton is missing
(one line, no traceback); 130 interrupted. ``bench`` holds nothing: it exits with 0.
"""

import argparse
import json
import os
import sys
import time
from typing import Any, NoReturn

import kernels

COMMANDS = {
    "verify": "numbers, bounds, races, traffic in the interpreter; registers and spills compiled",
    "report": "the machine code of every shipped configuration, and the targets it is held to",
    "bench": "on a GPU: times beside PyTorch's own; without one: bounds",
}


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line that says where to look."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message} (see: {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m kernels", description="Triton kernels, verified without a GPU.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("names", nargs="*", metavar="NAME", help="attention, ... (all)")
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")
        if name != "bench":
            command.add_argument("--quick", action="store_true", help="fewer cases, a short list")
        if name == "report":
            command.add_argument(
                "--arch", action="append", default=[], help="sm_90, ...; may be repeated (all)"
            )
    return parser


def progress(message: str) -> None:
    """One line that is written over, where somebody is looking."""
    if sys.stderr.isatty():
        print(f"\r{message[:100]:<100}", end="" if message else "\r", file=sys.stderr, flush=True)


def finish(args: argparse.Namespace, data: dict[str, Any], text: str, verdict: str) -> None:
    progress("")
    print(json.dumps(data) if args.json else f"{text}\n\n{verdict}")


def run_verify(args: argparse.Namespace) -> int:
    from kernels.verification.table import as_json, format_table
    from kernels.verification.verify import verify

    started = time.monotonic()
    rows = verify(args.names, quick=args.quick, progress=progress)
    failed = sum(not row.ok for row in rows)
    verdict = f"{failed} of {len(rows)} rows FAILED" if failed else "everything holds"
    seconds = time.monotonic() - started
    finish(args, as_json(rows), format_table(rows), f"{verdict} ({seconds:.0f} s)")
    return 1 if failed else 0


def run_report(args: argparse.Namespace) -> int:
    from kernels.verification import report as code
    from kernels.verification import targets as held

    started = time.monotonic()
    rows = code.report(args.names, args.arch, quick=args.quick, progress=progress)
    progress("traffic, launches, FLOPs")
    archs = {row.arch for row in rows}
    targets = [
        *held.machine_targets(rows),
        *held.tile_targets(args.names, archs),
        *held.number_targets(args.names),
    ]
    missed = sum(not target.met for target in targets)
    data = {
        "ok": not missed,
        "rows": code.report_json(rows),
        "targets": held.targets_json(targets),
    }
    text = f"{code.format_report(rows)}\n{code.NOTE}\n\n{held.format_targets(targets)}"
    verdict = f"{missed} of {len(targets)} targets MISSED" if missed else "every target is met"
    finish(args, data, text, f"{verdict} ({time.monotonic() - started:.0f} s)")
    return 1 if missed else 0


def run_bench(args: argparse.Namespace) -> int:
    import torch

    from kernels.verification import bench

    if torch.cuda.is_available():
        timings = bench.measure(args.names, progress=progress)
        name = torch.cuda.get_device_name()
        data = {"gpu": name, "timings": bench.bench_json(timings)}
        note = f"medians on {name}; ratio: time over that of kernels"
        finish(args, data, bench.format_timings(timings), note)
        return 0
    found = bench.bounds(args.names, progress=progress)
    note = (
        "no GPU: nothing was measured. These are bounds: the roofline for any kernel, "
        "the main loop's (ideal-serial) for ours"
    )
    finish(args, {"gpu": None, "bounds": bench.bench_json(found)}, bench.format_bounds(found), note)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    if not hasattr(kernels, "require_triton"):
        print(
            f"kernels: error: {kernels.__file__} is another package of this name and hides ours; "
            "uninstall it, or start Python from another folder",
            file=sys.stderr,
        )
        return 2
    args = build_parser().parse_args(argv)
    run = {"verify": run_verify, "report": run_report, "bench": run_bench}[args.command]
    try:
        kernels.require_triton(f"python -m kernels {args.command}")
        code = run(args)
        sys.stdout.flush()
        return code
    except (ValueError, ImportError) as error:
        print(f"kernels: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever was reading has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for what Python still wants to flush)
        return 1
    except KeyboardInterrupt:
        print("kernels: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
