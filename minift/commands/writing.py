"""What ``generate`` and ``chat`` share: their options, and a model that writes."""

import argparse
import sys
from typing import Any

from minift.commands.numbers import seed
from minift.errors import InputError

SAMPLING = ("temperature", "top_k", "top_p", "min_p")


def add_options(parser: argparse.ArgumentParser, new_tokens: str) -> None:
    """Options of ``model.generate`` that one text needs; ``new_tokens`` says their default."""
    numbers = (
        ("--max-new-tokens", int, None, f"at most (default {new_tokens})"),
        ("--temperature", float, None, "draw at random; below 1 tamer, above 1 wilder"),
        ("--top-k", int, None, "draw from the most probable tokens only (default 50)"),
        ("--top-p", float, None, "draw from the most probable ones that have this probability"),
        ("--min-p", float, None, "draw from those so many times as probable as the best"),
        ("--repetition-penalty", float, 1.0, "above 1: fewer repetitions (default 1)"),
        ("--seed", seed, None, "draw; the same seed writes the same text"),
    )
    for name, kind, default, text in numbers:
        parser.add_argument(name, type=kind, default=default, metavar="N", help=text)
    parser.add_argument(
        "--stop", action="append", metavar="TEXT", help="end after this text; may be repeated"
    )


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of ``generate``: greedy, unless something about drawing was said.

    Raises:
        InputError: a value that has no meaning.
    """
    options: dict[str, Any] = {
        "max_new_tokens": args.max_new_tokens,
        "repetition_penalty": args.repetition_penalty,
        "stop_strings": args.stop,
    }
    given = {name: getattr(args, name) for name in SAMPLING if getattr(args, name) is not None}
    options |= given | {"do_sample": bool(given) or args.seed is not None}
    _check(options | {"num_beams": getattr(args, "num_beams", 1)})
    return options


def _check(options: dict[str, Any]) -> None:
    """Refuse what has no meaning before a model is loaded and a prompt is read."""
    from minift.generation.settings import GenerationSettings

    said = {name: value for name, value in options.items() if value is not None}
    GenerationSettings(**{**said, "stop_strings": tuple(options["stop_strings"] or ())})


def load_writer(name_or_path: str) -> tuple[Any, Any]:
    """A language model and its tokenizer; what stdout cannot show will be shown as ``?``.

    Raises:
        InputError: no such model, or one that does not continue texts (encoders, translators).
    """
    import minift

    model, tokenizer = minift.load(name_or_path), minift.load_tokenizer(name_or_path)
    if not hasattr(model, "generate") or not hasattr(model, "max_positions"):
        raise InputError(
            f"model: {name_or_path} is a {type(model).__name__}, which continues no text; "
            "right: a causal language model, e.g. a GPT2LMHeadModel"
        )
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    return model, tokenizer
