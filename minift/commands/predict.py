"""``minift predict TASK``: label texts from standard input, one a line; JSON lines out."""

import argparse
import json
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="token-classification (or: ner)")
    parser.add_argument("--model", required=True, metavar="DIR", help="a fine-tuned model's folder")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of JSON lines")


def run(args: argparse.Namespace) -> int:
    from minift.files import decode_text
    from minift.tasks import task
    from minift.tasks.tagger import Tagger

    task(args.task)
    tagger = Tagger.load(args.model)
    results = []
    for number, line in enumerate(sys.stdin.buffer, start=1):
        text = decode_text(line, f"standard input, line {number}").rstrip("\r\n")
        row = {"text": text, "entities": tagger.entities(text, f"standard input, line {number}")}
        if args.json:
            results.append(row)
        else:
            print(json.dumps(row, ensure_ascii=False), flush=True)
    if args.json:
        print(json.dumps(results, ensure_ascii=False))
    return 0
