"""``minift chat MODEL``: a conversation, the answers shown while they are written."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from minift.errors import InputError

if TYPE_CHECKING:
    from minift.generation.chat import Chat

NEW_TOKENS = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from minift.commands.writing import add_options

    add = parser.add_argument
    add("model", metavar="MODEL", help="a chat model's folder, or an asset")
    add("--system", metavar="TEXT", help="an instruction that stands before the conversation")
    add_options(parser, str(NEW_TOKENS))
    add("--json", action="store_true", help="one JSON object for each answer")


def run(args: argparse.Namespace) -> int:
    """Until /exit or the end of the input; Ctrl-C stops an answer, or leaves at the prompt."""
    import torch

    from minift.commands.writing import load_writer, options_of
    from minift.generation.chat import Chat

    options = options_of(args)
    options["max_new_tokens"] = NEW_TOKENS if args.max_new_tokens is None else args.max_new_tokens
    chat = Chat(*load_writer(args.model), system=args.system)
    if args.seed is not None:
        torch.manual_seed(args.seed)
    talks = sys.stdin is not None and sys.stdin.isatty()
    if talks:
        print("/exit or Ctrl-D ends the conversation, Ctrl-C stops an answer.", file=sys.stderr)
    for question in _questions(talks):
        try:
            _turn(chat, question, options, args.json)
        except InputError as error:
            if not talks:
                raise
            print(f"minift: {error}", file=sys.stderr)
    return 0


def _questions(talks: bool) -> Iterator[str]:
    """Lines that the user types, or those of a pipe."""
    from minift.commands.lines import lines_of_input

    lines = _typed() if talks else (line for line, _ in lines_of_input())
    for line in lines:
        if line.strip() == "/exit":
            return
        if line.strip():
            yield line


def _typed() -> Iterator[str]:
    while True:
        try:
            yield input("> ")
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)  # the shell's prompt goes into a line of its own
            return


def _turn(chat: "Chat", question: str, options: dict[str, Any], as_json: bool) -> None:
    """One answer; what had to be forgotten is said on stderr."""
    before = chat.forgotten
    pieces = chat.reply(question, **options)
    if count := chat.forgotten - before:
        print(f"(the {count} oldest messages no longer fit and are forgotten)", file=sys.stderr)
    answer = ""
    try:
        for piece in pieces:
            answer += piece
            if not as_json:
                print(piece, end="", flush=True)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    row = {"question": question, "answer": answer, "forgotten": count}
    print(json.dumps(row, ensure_ascii=False) if as_json else "", flush=True)
