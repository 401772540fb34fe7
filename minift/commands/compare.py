"""Hold a model against its Hugging Face counterpart, number by number."""

import argparse
import json
from typing import Any

from minift.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``compare minilm|FOLDER [--batch B] [--length T] [--seed S] [--no-gradients] [--json]``."""
    parser.add_argument("model", metavar="minilm|FOLDER", help="an asset, or a checkpoint folder")
    parser.add_argument("--batch", type=int, default=4, help="sequences (default 4)")
    parser.add_argument("--length", type=int, default=48, help="tokens of the longest (default 48)")
    parser.add_argument("--seed", type=int, default=0, help="of the random tokens (default 0)")
    parser.add_argument("--no-gradients", action="store_true", help="compare the outputs only")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """0 when every quantity is within its tolerance, 1 when one is not."""
    for name in ("batch", "length"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name}: {getattr(args, name)}; right: at least 1")
    from minift.compare import compare
    from minift.models.loading import checkpoint_folder, load

    ours = load(args.model)
    theirs = load_theirs(ours, str(checkpoint_folder(args.model)))
    ids, mask = random_batch(ours, args.batch, args.length, args.seed)
    report = compare(ours, theirs, ids, mask, gradients=not args.no_gradients)
    if args.json:
        print(json.dumps({"model": args.model, **report.to_dict()}))
    else:
        print(headline(args.model, ours, mask))
        print(report.table())
        print(verdict(report))
    return 0 if report.ok else 1


def load_theirs(ours: Any, folder: str) -> Any:
    """The same checkpoint as ``transformers`` reads it."""
    import torch
    import transformers

    from minift.commands.quiet import quiet_transformers

    cls = getattr(transformers, type(ours).__name__)
    with quiet_transformers():
        return cls.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


def random_batch(model: Any, batch: int, length: int, seed: int) -> tuple[Any, Any]:
    """Random tokens in sequences of several lengths, padded on the right."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.config.vocab_size, (batch, length), generator=generator)
    lengths = torch.linspace(length, max(1, length // 4), batch).long()
    mask = (torch.arange(length)[None] < lengths[:, None]).long()  # (B, T)
    return ids, mask


def headline(name: str, model: Any, mask: Any) -> str:
    """What is compared, on what."""
    parameters = sum(p.numel() for p in model.parameters())
    lengths = mask.sum(1)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return (
        f"{name}: {type(model).__name__}, {parameters:,} parameters; {len(lengths)} random "
        f"sequences of {int(lengths.min())} to {int(lengths.max())} tokens; {dtype}"
    )


def verdict(report: Any) -> str:
    """The last line of the table."""
    if report.ok:
        return "ok: every difference is within its tolerance"
    return f"NOT equal: the first quantity out of tolerance is {report.first_difference}"
