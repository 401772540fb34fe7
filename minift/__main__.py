"""``python -m minift COMMAND``: one file a command, imported only when asked for.

A module in ``minift/commands`` has a docstring of one line, ``add_arguments(parser)`` and
``run(args) -> int``.
Exit codes: 0 what the command checks holds; 1 it does not hold; 2 the input is wrong (one line,
no traceback); 130 interrupted.
"""

import argparse
import errno
import os
import sys
from importlib import import_module
from typing import NoReturn

from minift.environment import check_environment
from minift.errors import InputError

# Idle OpenMP threads sleep instead of spinning. On a machine that does other work too, two
# spinning threads wait for each other: fine-tuning took 4.4 times as long beside one busy process.
# It counts only if it is set before PyTorch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

COMMANDS = {
    "demo": "the main job, end to end, on real weights; writes demo-report/",
    "assets": "real weights and data: list, fetch, path, verify",
    "finetune": "fine-tune a model on a task, with your files or the embedded data",
    "evaluate": "score a fine-tuned model on a labelled file",
    "predict": "label text from standard input, JSON lines out",
    "generate": "continue a text, shown while it is written",
    "chat": "talk with a chat model",
    "compare": "hold a model against its Hugging Face counterpart",
    "course": "exercises and notebooks; grading a class: release, grade, report",
}


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line that says where to look."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message} (see: {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def build_parser(argv: list[str]) -> argparse.ArgumentParser:
    """The parser of all commands; only the one that ``argv`` names has its arguments filled in."""
    parser = Parser(prog="minift", description="Transformers and fine-tuning from scratch.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary)
        if name in argv:
            module = import_module(f"minift.commands.{name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = build_parser(argv).parse_args(argv)
        check_environment()
        return args.run(args)
    except InputError as error:
        print(f"minift: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minift: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `minift ... | head`: the reader has gone, which is not an error
        _silence()
        return 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _silence()
        print(f"minift: error: output: {error.strerror}", file=sys.stderr)
        return 2


def _silence() -> None:
    """Nothing more goes to standard output: Python would try once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
