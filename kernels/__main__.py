"""``python -m kernels verify [NAME ...]``: verify the kernels without a GPU.

Exit codes: 0 everything holds; 1 something does not; 2 the input is wrong or Triton is missing
(one line, no traceback); 130 interrupted.
"""

import argparse
import json
import sys
import time
from typing import NoReturn

import kernels


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line that says where to look."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message} (see: {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="kernels", description="Triton kernels, verified without a GPU.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    summary = "numbers, bounds, races, traffic in the interpreter; registers and spills compiled"
    verify = commands.add_parser("verify", help=summary, description=summary)
    verify.add_argument("names", nargs="*", metavar="NAME", help="attention, adamw (default: both)")
    verify.add_argument("--quick", action="store_true", help="fewer cases, one architecture")
    verify.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def run_verify(args: argparse.Namespace) -> int:
    kernels.require_triton("python -m kernels verify")
    from kernels.verification.table import as_json, format_table
    from kernels.verification.verify import verify

    started = time.monotonic()
    shows = sys.stderr.isatty()

    def progress(message: str) -> None:
        if shows:
            print(f"\r{message:<60}", end="", file=sys.stderr, flush=True)

    rows = verify(args.names, quick=args.quick, progress=progress)
    progress("\r")
    ok = all(row.ok for row in rows)
    if args.json:
        print(json.dumps(as_json(rows)))
        return 0 if ok else 1
    print(format_table(rows))
    failed = sum(not row.ok for row in rows)
    verdict = "everything holds" if ok else f"{failed} of {len(rows)} rows FAILED"
    print(f"\n{verdict} ({time.monotonic() - started:.0f} s)")
    return 0 if ok else 1


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
    try:
        return run_verify(args)
    except (ValueError, ImportError) as error:
        print(f"kernels: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kernels: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
