"""``minift evaluate TASK``: score a fine-tuned model on a labelled file."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="token-classification (or: ner)")
    parser.add_argument("--model", required=True, metavar="DIR", help="a fine-tuned model's folder")
    parser.add_argument("--test", required=True, metavar="FILE", help="CoNLL columns")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    from minift.data.conll import read_conll
    from minift.tasks import task
    from minift.tasks.tagger import Tagger

    task(args.task)
    tagger = Tagger.load(args.model)
    sentences = read_conll(args.test, tagger.labels)
    report = tagger.evaluate(sentences, args.test)
    print(json.dumps(report.to_dict()) if args.json else report.format())
    return 0
