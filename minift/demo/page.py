"""The demo's report as one HTML page without any outside resource, and as plain numbers."""

import html
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from minift.demo import colour, figures
from minift.demo.stages import Outcome

_STYLE = """
:root { color-scheme: light; --ink: #1c2330; --dim: #5b6472; --line: #dfe3ea; --tint: #f5f7fa; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); line-height: 1.55;
       font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; } .dim { color: var(--dim); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; }
.card b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; }
th { background: var(--tint); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
figcaption { color: var(--dim); font-size: .9rem; max-width: 46rem; }
mark { border-bottom: 2px solid; border-radius: .2rem; padding: .1rem .25rem; color: inherit; }
mark small { margin-left: .3rem; font-weight: 700; font-size: .68rem; }
.sentence { font-size: 1.1rem; line-height: 2.1; margin: .5rem 0; }
td.words { white-space: normal; text-align: left; font-size: .8rem; min-width: 14rem; }
.ok { color: #00693c; } .bad { color: #b3261e; font-weight: 700; }
code { background: var(--tint); padding: .1rem .3rem; border-radius: .2rem; }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>minift demo report</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>
<body><main>
<h1>minift demo report</h1>
<p class="dim">A BERT written from scratch, loaded with real MiniLM weights, taught to find personal
data in text, and held against Hugging Face at every step. {setting}</p>
<div class="cards">{cards}</div>
<h2>Three sentences that are in no data set</h2>{sentences}
<h2>The training run</h2>{training}
<h2>Scores by entity type</h2>
<p>{split} An entity counts only if its type and both its ends are right.</p>{scores}
<h2>What is taken for what</h2>{confusion}
<h2>Where the model looks</h2>{attention}
<h2>Parity with transformers on real weights</h2>
<p>The largest absolute difference between our BERT and <code>transformers</code> on a padded batch,
beside the noise floor: the difference between Hugging Face's own two attention implementations on
the same input.</p>{parity}
<h2>GPU kernels, verified without a GPU</h2>{kernels}
</main></body></html>
"""


def metrics(outcome: Outcome) -> dict[str, Any]:
    """The content of ``metrics.json``: every number that the page shows, and each step's loss."""
    from kernels.verification.table import as_json  # plain Python: needs no Triton

    rows = outcome.kernel_rows
    return {
        "test": outcome.test.to_dict(),
        "baselines": outcome.baselines,
        "transformers": asdict(outcome.peer),
        "parity": outcome.parity.to_dict(),
        "history": outcome.history.to_dict(),
        "config": asdict(outcome.settings.config),
        "sentences": [{"text": text, "entities": found} for text, found in outcome.tagged],
        "kernels": None if rows is None else as_json(rows),
        "seconds": outcome.seconds,
    }


def render(outcome: Outcome) -> str:
    """The page."""
    return _PAGE.format(
        style=_STYLE,
        setting=f"torch {html.escape(torch.__version__)}, {platform.system()}, "
        f"threads: {torch.get_num_threads()}.",
        cards=_cards(outcome),
        sentences="".join(
            f'<p class="sentence">{colour.page(text, found)}</p>' for text, found in outcome.tagged
        ),
        training=_figure(
            figures.loss_curve(outcome.history, outcome.baselines["dictionary"]),
            "The loss falls with every step; after each epoch the validation F1 is measured, and "
            "the model keeps the weights of its best epoch.",
        ),
        split="Test sentences come from templates that are neither in training nor in validation.",
        scores=_scores(outcome),
        confusion=_figure(
            figures.confusion_matrix(outcome.test.confusion, sorted(outcome.test.by_type)),
            "Per cent of each row's words; a perfect tagger has 100 on the diagonal.",
        ),
        attention=_figure(
            figures.attention_map(*outcome.attention),
            "Attention of the last layer, mean over its heads, in the first sentence above: a row "
            "is a token, its columns are the tokens it takes information from. [CLS] and [SEP], "
            "on which the rest of the weight lies, are left out.",
        ),
        parity=_parity(outcome),
        kernels=_kernels(outcome.kernel_rows),
    )


def _cards(outcome: Outcome) -> str:
    peer, best = outcome.peer, outcome.history.best
    cells = [
        (f"{outcome.test.micro.f1:.3f}", "entity F1 on unseen sentence forms"),
        (f"{outcome.baselines['dictionary']:.3f}", "F1 of a dictionary of the training entities"),
        (f"{outcome.baselines['majority']:.3f}", "F1 of always saying O"),
        (f"{peer.loss_gap:.1g}", f"largest loss gap to transformers over {peer.steps} steps"),
        (f"{best.score:.3f}" if best else "-", "best validation F1"),
        (f"{len(outcome.history.steps)}", "optimiser steps"),
    ]
    if peer.f1 is not None:
        cells.insert(1, (f"{peer.f1:.3f}", "F1 of transformers' model, same batches and seed"))
    return "".join(f'<div class="card"><b>{value}</b>{name}</div>' for value, name in cells)


def _scores(outcome: Outcome) -> str:
    report = outcome.test
    rows = [
        [name, s.precision, s.recall, s.f1, report.words_by_type[name].f1, s.gold]
        for name, s in report.by_type.items()
    ]
    all_ = report.micro
    rows.append(["all entities", all_.precision, all_.recall, all_.f1, "", all_.gold])
    return _table(["type", "precision", "recall", "F1", "F1 of words", "gold entities"], rows)


def _parity(outcome: Outcome) -> str:
    rows = [
        [r.name, f"{r.difference:.1e}", f"{r.floor:.1e}", f"{r.tolerance:.1e}", _verdict(r.ok)]
        for r in outcome.parity.rows
    ]
    return _table(["quantity", "difference", "noise floor", "tolerance", ""], rows)


def _kernels(rows: Sequence[Any] | None) -> str:
    if rows is None:
        return "<p>Left out: Triton has no build for this system.</p>"
    from kernels.verification.table import tables

    return "<br>".join(_table(head, body) for head, body in tables(rows))


def _verdict(ok: bool) -> str:
    return "ok" if ok else "FAILED"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else html.escape(str(value))
    kind = {"ok": ' class="ok"', "FAILED": ' class="bad"'}.get(text, "")
    if " " in text and ":" in text:  # an instruction mix: several words, not one number
        kind = ' class="words"'
    return f"<td{kind}>{text}</td>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
