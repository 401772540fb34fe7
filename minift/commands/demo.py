"""``minift demo``: the main job end to end on real weights, with a report to look at."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minift.data.pii import Splits
    from minift.demo.stages import Outcome, Peer, Settings
    from minift.tasks.tagger import Tagger
    from minift.training import History

REPORT = {"index.html", "metrics.json", "model"}
ROUGH = 1e-4
"""How far two loss curves may be apart where the two runs differ by rounding only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="demo-report", metavar="DIR", help="the report's folder")
    parser.add_argument("--quick", action="store_true", help="30 s: few sentences, one epoch")
    parser.add_argument(
        "--with-transformers",
        action="store_true",
        help="also train Hugging Face's model to the end, for its F1 (twice the time)",
    )
    parser.add_argument("--json", action="store_true", help="metrics as JSON on standard output")


def run(args: argparse.Namespace) -> int:
    from minift.files import check_new_folder, new_folder

    # An earlier report is replaced; a folder with anything else in it is not touched.
    earlier = {path.name for path in Path(args.out).glob("*")} == REPORT
    check_new_folder("--out", args.out, overwrite=earlier, hint=False)
    with new_folder(args.out) as temporary:
        outcome, ok = _Show(args, temporary).run()
    if args.json:
        from minift.demo.page import metrics

        print(json.dumps({"ok": ok, **metrics(outcome)}))
    return 0 if ok else 1


class _Show:
    """Runs the stages one after the other and says what each found."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.seconds: dict[str, float] = {}
        self.count = 0

    def say(self, text: str = "") -> None:
        print(text, file=sys.stderr if self.args.json else sys.stdout, flush=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.count += 1
        self.say(f"\n[{self.count}/7] {name}")
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 1)

    def run(self) -> "tuple[Outcome, bool]":
        from minift.commands.quiet import quiet_transformers

        with quiet_transformers():
            outcome = self.stages()
        checks = {
            "parity with transformers": outcome.parity.ok,
            f"loss curve as transformers' (gap ≤ {ROUGH:g})": outcome.peer.loss_gap <= ROUGH,
            "F1 above the dictionary": outcome.test.micro.f1 > outcome.baselines["dictionary"],
            **_same_f1(outcome),
            "saved model loads in transformers": self.reloads,
            "kernels": outcome.kernel_rows is None or all(r.ok for r in outcome.kernel_rows),
        }
        self.say()
        for name, ok in checks.items():
            self.say(f"  {'ok  ' if ok else 'FAIL'}  {name}")
        total = sum(outcome.seconds.values())
        self.say(f"\nThe page: {self.args.out}/index.html   ({total:.0f} s in all)")
        return outcome, all(checks.values())

    def stages(self) -> "Outcome":
        with self.stage("real weights and data: fetched once, checked by sha256"):
            from minift.demo import stages

            self.say("  " + ", ".join(f"{name}: ok" for name in stages.check_assets()))
        settings = stages.QUICK if self.args.quick else stages.FULL
        with self.stage("MiniLM by our BERT against transformers"):
            parity = stages.check_parity()
            self.say(_indent(parity.table()))
        with self.stage("fine-tuning on personal data in text (17 entity types)"):
            tagger, splits, history = self.fine_tune(settings)
        with self.stage("scores on sentence forms that training never saw"):
            test = tagger.evaluate(splits.test)
            self.say(_indent(test.format()))
            baselines = stages.score_baselines(splits)
            peer = stages.train_peer(
                settings, splits, history, tagger.labels, self.args.with_transformers
            )
            self.say(_peers(test.micro.f1, baselines, peer))
        with self.stage("three sentences that are in no data set"):
            from minift.demo.colour import terminal

            tagged = stages.tag_unseen(tagger)
            for text, entities in tagged:
                self.say("  " + terminal(text, entities))
        with self.stage("GPU kernels, verified without a GPU"):
            rows = stages.verify_kernels(self.args.quick)
            self.say(_kernels(rows))
        outcome = stages.Outcome(
            settings, parity, history, test, baselines, peer, tagged,
            stages.attention_of(tagger, tagged[0][0]), rows, self.seconds,
        )  # fmt: skip
        with self.stage("writing the report"):
            self.write(outcome, tagger)
        return outcome

    def fine_tune(self, settings: "Settings") -> "tuple[Tagger, Splits, History]":
        from minift.demo import stages
        from minift.training.progress import Progress

        splits = settings.splits()
        self.say(
            f"  {len(splits.train)} training sentences, {len(splits.test)} test sentences "
            "of other templates"
        )
        with Progress("  training", enabled=not self.args.json) as progress:
            tagger, history = stages.fine_tune(settings, splits, progress)
        return tagger, splits, history

    def write(self, outcome: "Outcome", tagger: "Tagger") -> None:
        from minift.demo.page import metrics, render
        from minift.demo.stages import reload_in_transformers
        from minift.files import write_json, write_text

        tagger.save(self.folder / "model")
        self.reloads = reload_in_transformers(self.folder / "model", tagger)
        write_json(self.folder / "metrics.json", metrics(outcome))
        write_text(self.folder / "index.html", render(outcome))
        self.say("  index.html, metrics.json, model/ (loads in transformers)")


def _same_f1(outcome: "Outcome") -> dict[str, bool]:
    """Where transformers' model was trained to the end: its F1 is ours, to the third decimal."""
    if outcome.peer.f1 is None:
        return {}
    return {"F1 as transformers'": abs(outcome.peer.f1 - outcome.test.micro.f1) <= 5e-4}


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _peers(f1: float, baselines: dict[str, float], peer: "Peer") -> str:
    rows = {"this model": f1, **baselines}
    if peer.f1 is not None:
        rows["transformers"] = peer.f1
    scores = ", ".join(f"{name} {value:.3f}" for name, value in rows.items())
    return (
        f"\n  entity F1: {scores}\n  transformers' BertForTokenClassification on the same batches: "
        f"largest loss difference over {peer.steps} steps {peer.loss_gap:.1e}"
    )


def _kernels(rows: list[Any] | None) -> str:
    if rows is None:
        return "  left out: Triton has no build for this system (Linux, WSL and Colab have it)"
    from kernels.verification.table import format_table

    return _indent(format_table(rows))
