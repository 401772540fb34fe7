"""``minift predict TASK``: label texts from standard input, one a line; JSON lines out."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="token-classification (or: ner)")
    parser.add_argument("--model", required=True, metavar="DIR", help="a fine-tuned model's folder")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of JSON lines")


def run(args: argparse.Namespace) -> int:
    from minift.commands.lines import lines_of_input
    from minift.tasks import task
    from minift.tasks.tagger import Tagger

    task(args.task)
    tagger = Tagger.load(args.model)
    results = []
    for text, name in lines_of_input():
        row = {"text": text, "entities": tagger.entities(text, name)}
        if args.json:
            results.append(row)
        else:
            print(json.dumps(row, ensure_ascii=False), flush=True)
    if args.json:
        print(json.dumps(results, ensure_ascii=False))
    return 0
