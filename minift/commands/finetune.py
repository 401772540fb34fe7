"""``minift finetune TASK``: fine-tune a model on your files, or on the embedded data."""

import argparse
import json
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from minift.errors import InputError

if TYPE_CHECKING:
    from minift.data.conll import Sentence
    from minift.tasks.tagger import Tagger
    from minift.training import History, TrainConfig

_NUMBERS = {
    "epochs": (int, "passes over the training sentences"),
    "batch_size": (int, "sentences a forward pass"),
    "accumulation_steps": (int, "forward passes an optimiser step"),
    "learning_rate": (float, "peak of the schedule"),
    "weight_decay": (float, "AdamW's decoupled weight decay"),
    "warmup_ratio": (float, "share of the steps with a rising learning rate"),
    "max_grad_norm": (float, "gradient clipping; 0: none"),
    "dropout": (float, "dropout probability"),
    "patience": (int, "stop after so many epochs without a better F1"),
    "seed": (int, "of shuffling, dropout and the new head"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="token-classification (or: ner)")
    parser.add_argument("--train", metavar="FILE", help="CoNLL columns; default: embedded PII data")
    parser.add_argument("--valid", metavar="FILE", help="the same, for choosing the best epoch")
    parser.add_argument("--test", metavar="FILE", help="the same, scored once at the end")
    parser.add_argument("--model", default="minilm", help="asset name or folder (default: minilm)")
    parser.add_argument("--out", metavar="DIR", required=True, help="new folder for the model")
    parser.add_argument("--overwrite", action="store_true", help="replace what DIR holds")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    for name, (kind, help_text) in _NUMBERS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=help_text)


def run(args: argparse.Namespace) -> int:
    from minift.files import check_new_folder
    from minift.tasks import task
    from minift.tasks.tagger import new_tagger
    from minift.training.progress import Progress

    task(args.task)
    config = config_from(args)
    check_new_folder("--out", args.out, args.overwrite)
    train, valid, test = read_splits(args.train, args.valid, args.test)
    tagger = new_tagger(args.model, train, config.seed)
    # Before any training: a sentence that is too long or a tag that training never saw.
    for sentences, name in ((train, args.train), (valid, args.valid), (test or [], args.test)):
        tagger.encode(sentences, name or "embedded data")
    with Progress("fine-tuning", enabled=not args.json) as progress:
        history = tagger.fit(train, valid, config, progress)
    metrics = metrics_of(tagger, history, config, valid, test)
    tagger.save(args.out, metrics)
    if args.json:
        print(json.dumps({"out": args.out, **metrics}))
    else:
        print(tagger.evaluate(test or valid).format())
        print(f"saved to {args.out}", file=sys.stderr)
    return 0


def config_from(args: argparse.Namespace) -> "TrainConfig":
    """The settings given on the command line; the rest have their defaults."""
    from minift.training import TrainConfig

    names = [field.name for field in fields(TrainConfig)]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return TrainConfig(**given)


def metrics_of(
    tagger: "Tagger", history: "History", config: "TrainConfig", valid: Any, test: Any
) -> dict[str, Any]:
    """What ``metrics.json`` holds: settings, every step, and the scores of the best weights."""
    from dataclasses import asdict

    scores = {"valid": tagger.evaluate(valid, "valid").to_dict()}
    if test:
        scores["test"] = tagger.evaluate(test, "test").to_dict()
    return {**scores, "config": asdict(config), "history": history.to_dict()}


def read_splits(
    train: str | None, valid: str | None, test: str | None
) -> "tuple[list[Sentence], list[Sentence], list[Sentence] | None]":
    """Training, validation and test sentences; without any file, the embedded PII data.

    Raises:
        InputError: a file is missing or malformed, or ``valid`` or ``test`` has a tag that
            ``train`` does not have.
    """
    if train is None:
        if valid or test:
            raise InputError("--train: missing; right would be a CoNLL file beside --valid/--test")
        from minift.data import pii

        splits = pii.load_splits()
        return splits.train, splits.valid, splits.test
    if valid is None:
        raise InputError("--valid: missing; right would be a CoNLL file to choose the best epoch")
    from minift.data.conll import read_conll
    from minift.tasks.token_classification import label_names

    sentences = read_conll(train)
    known = label_names(sentences)
    return sentences, read_conll(valid, known), read_conll(test, known) if test else None
