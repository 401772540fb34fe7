"""Hold a model against its Hugging Face counterpart, number by number."""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from minift.commands.numbers import seed
from minift.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``compare MODEL [--against FOLDER] [--modules] [--json] …``."""
    parser.add_argument(
        "model", metavar="MODEL", help="an asset, a checkpoint folder, or a GGUF file"
    )
    parser.add_argument(
        "--against",
        metavar="FOLDER",
        help="another checkpoint, read by transformers (default: the same one)",
    )
    parser.add_argument("--batch", type=int, default=4, help="sequences (default 4)")
    parser.add_argument("--length", type=int, default=48, help="tokens of the longest (default 48)")
    parser.add_argument("--seed", type=seed, default=0, help="of the random tokens (default 0)")
    parser.add_argument("--no-gradients", action="store_true", help="compare the outputs only")
    parser.add_argument("--modules", action="store_true", help="a line for each module")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """0 when every quantity and every module is within its tolerance, 1 when one is not."""
    for name in ("batch", "length"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name}: {getattr(args, name)}; right: at least 1")
    from minift.compare import diagnose
    from minift.models.loading import checkpoint_folder, load

    ours = load(args.model)
    folder = str(checkpoint_folder(args.against or args.model))
    theirs = load_theirs(ours, folder) if args.against is None else load_other(folder)
    given, mask, more = random_batch(ours, args.batch, args.length, args.seed)
    found = diagnose(ours, theirs, given, mask, gradients=not args.no_gradients, **more)
    if args.json:
        against = {} if args.against is None else {"against": args.against}
        print(json.dumps({"model": args.model, **against, **found.to_dict()}))
    else:
        print(headline(args.model, ours, given, mask))
        print(found.report.table())
        print()
        print(found.table(modules=args.modules))
    return 0 if found.ok else 1


def load_theirs(ours: Any, folder: str) -> Any:
    """The same checkpoint as ``transformers`` reads it."""
    from minift.models.loading import hf_class

    return _pretrained(hf_class(ours), folder)


def load_other(folder: str) -> Any:
    """Another checkpoint as ``transformers`` reads it.

    Raises:
        InputError: it cannot be read, or is of a family that this project does not have.
    """
    from minift.models.loading import hf_class, load

    return _pretrained(hf_class(load(folder)), folder)  # ours says first what is wrong with it


def _pretrained(name: str, folder: str) -> Any:
    import torch
    import transformers

    from minift.commands.quiet import quiet_transformers
    from minift.models.gguf import gguf_file

    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
    if file := gguf_file(Path(folder)):
        if find_spec("gguf") is None:
            right = "run `python -m pip install gguf accelerate`"
            raise InputError(f"{file}: transformers reads it with the package gguf; right: {right}")
        folder, options["gguf_file"] = str(file.parent), file.name
    with quiet_transformers():
        return getattr(transformers, name).from_pretrained(folder, **options)


def random_batch(model: Any, batch: int, length: int, seed: int) -> tuple[Any, Any, dict[str, Any]]:
    """Random tokens in sequences of several lengths, padded on the right; or random images.

    The third value holds the decoder's tokens, where there is one beside an encoder.
    """
    import torch

    generator, config = torch.Generator().manual_seed(seed), model.config
    if hasattr(config, "image_size"):
        size = (batch, config.num_channels, config.image_size, config.image_size)
        return torch.randn(size, generator=generator), None, {}
    ids = torch.randint(0, config.vocab_size, (batch, length), generator=generator)
    lengths = torch.linspace(length, max(1, length // 4), batch).long()
    mask = (torch.arange(length)[None] < lengths[:, None]).long()  # (B, T)
    if not getattr(config, "is_encoder_decoder", hasattr(config, "decoder_start_token_id")):
        return ids, mask, {}
    written = torch.randint(0, config.vocab_size, (batch, length // 2 + 1), generator=generator)
    return ids, mask, {"decoder_input_ids": written}


def headline(name: str, model: Any, given: Any, mask: Any) -> str:
    """What is compared, on what."""
    parameters = sum(p.numel() for p in model.parameters())
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    start = f"{name}: {type(model).__name__}, {parameters:,} parameters; {len(given)} random "
    if mask is None:
        return f"{start}images of {given.shape[-2]} × {given.shape[-1]} pixels; {dtype}"
    lengths = mask.sum(1)
    return f"{start}sequences of {int(lengths.min())} to {int(lengths.max())} tokens; {dtype}"
