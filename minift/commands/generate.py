"""``minift generate MODEL``: continue prompts, shown while they are written."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

NEW_TOKENS = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from minift.commands.writing import add_options

    add = parser.add_argument
    add("model", metavar="MODEL", help="a model's folder, or an asset")
    add("--prompt", metavar="TEXT", help="to continue; without it each line of standard input")
    add_options(parser, f"{NEW_TOKENS}, or what fits")
    add("--num-beams", type=int, default=1, metavar="N", help="beam search (default 1: none)")
    add("--json", action="store_true", help="one JSON object for each prompt")


def run(args: argparse.Namespace) -> int:
    from minift.commands.writing import load_writer, options_of

    options = options_of(args) | {"num_beams": args.num_beams}
    model, tokenizer = load_writer(args.model)
    for prompt in _prompts(args.prompt):
        _seed(args.seed)
        pieces = _pieces(model, tokenizer, prompt, options)  # refuses before anything is shown
        if not args.json:
            print(prompt, end="", flush=True)
        text = ""
        for piece in pieces:
            text += piece
            if not args.json:
                print(piece, end="", flush=True)
        row = {"prompt": prompt, "text": text}
        print(json.dumps(row, ensure_ascii=False) if args.json else "", flush=True)
    return 0


def _prompts(given: str | None) -> Iterator[str]:
    from minift.commands.lines import lines_of_input

    if given is not None:
        yield given
        return
    for line, _ in lines_of_input():
        if line.strip():
            yield line


def _seed(seed: int | None) -> None:
    import torch

    if seed is not None:
        torch.manual_seed(seed)


def _pieces(model: Any, tokenizer: Any, prompt: str, options: dict[str, Any]) -> Iterator[str]:
    """The new text as it comes; with beams, when it is all there."""
    from minift.generation.generate import check_room, trained_positions
    from minift.generation.streaming import prompt_ids, stream

    ids = prompt_ids(model, tokenizer, prompt)
    length = ids.shape[1]
    most = trained_positions(model)
    if options["max_new_tokens"] is None:
        options = {**options, "max_new_tokens": max(1, min(NEW_TOKENS, most - length))}
    check_room(length, options["max_new_tokens"], most)
    if options["num_beams"] == 1:
        return stream(model, tokenizer, ids[0].tolist(), **options)
    text = model.generate(ids, tokenizer=tokenizer, **options)[0, length:].tolist()
    return iter([tokenizer.decode(text, skip_special_tokens=True)])
