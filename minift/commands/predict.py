"""``minift predict TASK``: label texts from standard input, one a line; JSON lines out."""

import argparse
import json
import sys
from collections.abc import Iterator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="token-classification (or: ner)")
    parser.add_argument("--model", required=True, metavar="DIR", help="a fine-tuned model's folder")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of JSON lines")


def _lines() -> Iterator[bytes]:
    from minift.errors import InputError

    try:
        yield from sys.stdin.buffer
    except (OSError, AttributeError):  # closed by the caller: Python then has no stdin at all
        raise InputError("standard input: is closed; right would be text, a line each") from None


def run(args: argparse.Namespace) -> int:
    from minift.files import decode_text
    from minift.tasks import task
    from minift.tasks.tagger import Tagger

    task(args.task)
    tagger = Tagger.load(args.model)
    results = []
    for number, line in enumerate(_lines(), start=1):
        text = decode_text(line, f"standard input, line {number}").rstrip("\r\n")
        row = {"text": text, "entities": tagger.entities(text, f"standard input, line {number}")}
        if args.json:
            results.append(row)
        else:
            print(json.dumps(row, ensure_ascii=False), flush=True)
    if args.json:
        print(json.dumps(results, ensure_ascii=False))
    return 0
