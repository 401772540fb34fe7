"""The demo from end to end in its quick form, and its parts."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
import transformers

from minift.__main__ import main
from minift.commands import demo
from minift.commands.demo import REPORT
from minift.demo import colour, figures
from minift.demo.stages import UNSEEN
from minift.training.loop import Evaluation, History, Step


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "report"
    code = main(["demo", "--quick", "--out", str(folder)])
    return code, folder


@pytest.fixture(scope="module")
def numbers(report):
    return json.loads((report[1] / "metrics.json").read_text())


def test_quick_demo_checks_everything_and_succeeds(report, numbers):
    code, folder = report
    assert code == 0
    assert sorted(p.name for p in folder.iterdir()) == ["index.html", "metrics.json", "model"]
    assert numbers["parity"]["ok"]
    assert numbers["transformers"]["steps"] == 3
    assert numbers["transformers"]["loss_gap"] <= 1e-4
    assert numbers["test"]["f1"] > numbers["baselines"]["dictionary"] > 0
    assert numbers["baselines"]["majority"] == 0
    losses = [step["loss"] for step in numbers["history"]["steps"]]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert numbers["kernels"]["ok"] if find_spec("triton") else numbers["kernels"] is None
    assert [row["text"] for row in numbers["sentences"]] == list(UNSEEN)


def test_saved_model_runs_in_transformers(report):
    model = transformers.AutoModelForTokenClassification.from_pretrained(report[1] / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(report[1] / "model")
    tagger = transformers.pipeline("token-classification", model=model, tokenizer=tokenizer)
    assert isinstance(tagger(UNSEEN[0]), list)
    assert set(model.config.id2label.values()) > {"O", "B-PERSON", "I-PERSON"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links = [], Counter(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        if tag in ("main", "table", "figure", "svg", "p", "div"):
            self.open.append(tag)
        targets = [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        self.links += [v for v in targets if not v.startswith(("#", "data:"))]

    def handle_endtag(self, tag):
        if tag in ("main", "table", "figure", "svg", "p", "div"):
            assert self.open.pop() == tag


def test_page_is_whole_and_needs_no_network(report, numbers):
    text = (report[1] / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.links == []
    assert page.tags["figure"] == page.tags["svg"] == 3
    assert page.tags["table"] == (4 if find_spec("triton") else 2)
    assert f"{numbers['test']['f1']:.3f}" in text
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.S).lower().split()


def test_nothing_is_left_beside_the_report(report):
    assert [p.name for p in report[1].parent.iterdir()] == ["report"]


@pytest.mark.parametrize(
    ("names", "code"),
    [(REPORT, 1), ([], 1), (["model"], 2), ([*REPORT, "thesis"], 2)],
)
def test_only_an_earlier_report_is_replaced(tmp_path, monkeypatch, names, code):
    """``stages`` ends the run at once: what counts is whether it was allowed to start."""

    class Started(Exception):
        pass

    def start(self):
        raise Started

    monkeypatch.setattr(demo._Show, "run", start)
    for name in names:
        (tmp_path / name).write_text("mine")
    if code == 2:
        assert main(["demo", "--out", str(tmp_path)]) == 2
    else:
        with pytest.raises(Started):
            main(["demo", "--out", str(tmp_path)])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)


@pytest.mark.parametrize(("theirs", "holds"), [(None, None), (0.7614, True), (0.7602, False)])
def test_f1_is_held_against_transformers_where_it_was_measured(theirs, holds):
    outcome = SimpleNamespace(
        peer=SimpleNamespace(f1=theirs), test=SimpleNamespace(micro=SimpleNamespace(f1=0.761))
    )
    assert list(demo._same_f1(outcome).values()) == ([] if holds is None else [holds])


def test_bad_output_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert main(["demo", "--quick", "--out", str(tmp_path / "file")]) == 2
    assert "--out:" in capsys.readouterr().err
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 2
    assert "is not empty; name a new folder\n" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "x"


ENTITIES = [{"type": "A", "start": 4, "end": 7, "text": "<b>"}]


def test_colours():
    assert colour.terminal("say <b>!", ENTITIES, colour=False) == "say [<b>](A)!"
    painted = colour.terminal("say <b>!", ENTITIES, colour=True)
    assert re.sub(r"\x1b\[[\d;]*m", "", painted) == "say <b> [A]!"
    assert "say <mark" in colour.page("say <b>!", ENTITIES)
    assert "&lt;b&gt;" in colour.page("say <b>!", ENTITIES)
    assert colour.page("a < b", []) == "a &lt; b"


def test_figures_are_svg_with_labels():
    history = History([Step(i, 1 / i, 1.0, 0.1) for i in range(1, 9)], [Evaluation(8, 1, 0.5)])
    for svg, labels in (
        (figures.loss_curve(history, 0.2), ["optimiser step", "entity F1"]),
        (figures.confusion_matrix(Counter({("A", "A"): 3, ("O", "A"): 1}), ["A"]), ["gold type"]),
        (figures.attention_map(torch.eye(3), ["[CLS]", "a&b", "[SEP]"]), ["attended token"]),
    ):
        assert svg.startswith("<svg")
        assert svg.rstrip().endswith("</svg>")
        assert all(label in svg for label in labels)
