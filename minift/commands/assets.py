"""Real weights and data: list what there is, fetch it, find its folder, verify its hashes."""

import argparse
import json
import shutil
import sys
from textwrap import shorten
from typing import Any

from minift.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``assets list | fetch NAME... | path NAME | verify [NAME...]``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|fetch|path|verify")
    listing = actions.add_parser("list", help="every asset: size, cached or not, licence, what")
    fetching = actions.add_parser("fetch", help="download what is not cached yet")
    fetching.add_argument("names", nargs="*", metavar="NAME")
    fetching.add_argument("--all", action="store_true", help="every asset")
    fetching.add_argument("--source", default="pypi", help="pypi (default) or hub")
    fetching.add_argument("--force", action="store_true", help="download again even if cached")
    pathing = actions.add_parser("path", help="print the folder of a fetched asset")
    pathing.add_argument("name", metavar="NAME")
    verifying = actions.add_parser("verify", help="recompute every hash of what is cached")
    verifying.add_argument("names", nargs="*", metavar="NAME")
    for action in (listing, fetching, pathing, verifying):
        action.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Exit code 0; 1 when ``verify`` finds a difference; wrong input raises InputError."""
    action = {"list": run_list, "fetch": run_fetch, "path": run_path, "verify": run_verify}
    return action[args.action](args)


def run_list(args: argparse.Namespace) -> int:
    """A table, or with ``--json`` everything the catalog says of each asset but the hashes."""
    from minift.assets import ASSETS, Asset, cache, cache_dir

    def state(asset: Asset) -> str:
        problems = cache.damage(asset)
        return "no" if problems is None else "damaged" if problems else "yes"

    rows = [
        {
            "name": asset.name,
            "download_bytes": asset.wheel_size,
            "cached": state(asset),
            "licence": asset.licence,
            "what": asset.what,
            "distribution": asset.distribution,
            "hub": asset.hub.repo if asset.hub else None,
        }
        for asset in ASSETS.values()
    ]
    if args.json:
        print(json.dumps({"cache": str(cache_dir()), "assets": rows}))
    else:
        print_table([["name", "MB", "cached", "licence", "what"], *map(table_row, rows)])
        print(f"\nin {cache_dir()} (MINIFT_CACHE sets another folder)")
    return 0


def table_row(row: dict[str, Any]) -> list[str]:
    """The cells of one asset."""
    size = f"{row['download_bytes'] / 1e6:.1f}"
    return [row["name"], size, row["cached"], row["licence"], row["what"]]


def print_table(rows: list[list[str]]) -> None:
    """Columns padded to their widest cell, numbers to the right; cut to a terminal's width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    for name, size, *middle, what in rows:
        cells = [name.ljust(widths[0]), size.rjust(widths[1])]
        cells += [cell.ljust(width) for cell, width in zip(middle, widths[2:], strict=False)]
        line = "  ".join(cells)
        print(line, "", shorten(what, max(20, room - len(line) - 2), placeholder="..."))


def run_fetch(args: argparse.Namespace) -> int:
    """Everything named is checked first, so that a misspelt name costs no download."""
    from minift.assets import ASSETS, fetch, fetching, is_cached

    if bool(args.names) == args.all:
        raise InputError("assets fetch: give one or more names, or --all (see: assets list)")
    names = list(ASSETS) if args.all else args.names
    for name in names:
        fetching.check_source(fetching.find(name), args.source)
    done = {}
    for name in names:
        there = is_cached(name) and not args.force
        folder = fetch(name, source=args.source, force=args.force)
        done[name] = {"folder": str(folder), "downloaded": not there}
        if not args.json:
            print(f"{name}: {'already in' if there else 'fetched to'} {folder}")
    if args.json:
        print(json.dumps({"assets": done}))
    return 0


def run_path(args: argparse.Namespace) -> int:
    """The folder alone on a line, for ``$(...)`` in a shell."""
    from minift.assets import path

    folder = str(path(args.name))
    print(json.dumps({"name": args.name, "path": folder}) if args.json else folder)
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """One line for every asset that is cached; 1 if any differs. Named ones have to be there."""
    from minift.assets import ASSETS, cache, failures, fetching

    results: dict[str, list[str]] = {}
    for asset in [fetching.find(name) for name in args.names] or ASSETS.values():
        problems = cache.damage(asset, deep=True)
        if problems is None and args.names:
            raise failures.not_fetched(asset)
        if problems is not None:
            results[asset.name] = problems
            damaged = failures.damaged(asset, cache.folder_of(asset), problems)
            if not args.json:
                print(damaged if problems else f"{asset.name}: ok")
    whole = not any(results.values())
    if args.json:
        print(json.dumps({"ok": whole, "assets": results}))
    elif not results:
        print(f"nothing has been fetched into {cache.cache_dir()} yet")
    return 0 if whole else 1
