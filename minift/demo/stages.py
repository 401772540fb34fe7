"""The demo's stages, one function each: every one returns what it found, none prints."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

import minift
from minift import assets, compare
from minift.data import pii
from minift.tasks.entity_baselines import Dictionary, majority
from minift.tasks.entity_metrics import Report, score_entities
from minift.tasks.tagger import Tagger, new_tagger
from minift.training import History, TrainConfig, train
from minift.training.dropout import set_dropout
from minift.training.loop import Observer, first_losses

ENCODER = "minilm"
NEEDED = (ENCODER, "presidio-templates")

UNSEEN = (
    "Hi, this is Margaret Okafor from Bluefin Logistics. Please call me back on (415) 555-0132.",
    "The parcel for Ms. Lindqvist goes to 18 Harbour Lane, Galway, Ireland; "
    "her e-mail is k.lindqvist@example.com.",
    "My card 4556 7375 8689 9855 was charged twice on 3 March 2024, and I am 67 years old.",
)
"""Sentences of no template, written for the demo and never trained on."""


@dataclass(frozen=True)
class Settings:
    """How much data the demo makes and how long it trains."""

    fillings: int
    per_type: int
    test_fillings: int
    hf_steps: int
    config: TrainConfig

    def splits(self) -> pii.Splits:
        return pii.load_splits(
            self.fillings, per_type=self.per_type, test_fillings=self.test_fillings
        )


FULL = Settings(8, 48, 10, 10, TrainConfig(epochs=3, batch_size=16, learning_rate=2e-4))
QUICK = Settings(2, 16, 2, 3, TrainConfig(epochs=1, batch_size=8, learning_rate=5e-4))


@dataclass(frozen=True)
class Peer:
    """Hugging Face's ``BertForTokenClassification`` on the same batches from the same seed."""

    steps: int
    loss_gap: float
    """max |our loss − theirs| over these steps."""
    f1: float | None
    """Test F1 of their model, when it was trained to the end."""


@dataclass
class Outcome:
    """All that the demo found; the page and metrics.json are made from it."""

    settings: Settings
    parity: compare.Report
    history: History
    test: Report
    baselines: dict[str, float]
    peer: Peer
    tagged: list[tuple[str, list[dict[str, Any]]]]
    attention: tuple[Tensor, list[str]]
    kernel_rows: list[Any] | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def check_assets() -> list[str]:
    """Fetch what is missing, verify every file's sha256; the names."""
    for name in NEEDED:
        assets.fetch(name)
        assets.verify(name)
    return list(NEEDED)


def check_parity() -> compare.Report:
    """MiniLM by our BERT against ``transformers``, on sentences of different lengths, padded."""
    folder = assets.fetch(ENCODER)
    tokenizer = minift.load_tokenizer(ENCODER)
    batch = tokenizer([*UNSEEN, "Hello!", "A transformer reads a whole sentence."], padding=True)
    theirs = transformers.BertModel.from_pretrained(folder, dtype=torch.float32)
    return compare.compare(
        minift.load(ENCODER), theirs, batch["input_ids"], batch["attention_mask"], gradients=False
    )


def fine_tune(
    settings: Settings, splits: pii.Splits, observe: Observer | None
) -> tuple[Tagger, History]:
    """A PII tagger on MiniLM."""
    tagger = new_tagger(ENCODER, splits.train, settings.config.seed)
    return tagger, tagger.fit(splits.train, splits.valid, settings.config, observe)


def score_baselines(splits: pii.Splits) -> dict[str, float]:
    """Test F1 of taggers that read no context."""
    gold = [s.tags for s in splits.test]
    dictionary = Dictionary(splits.train)
    return {
        "majority": score_entities(gold, majority(splits.train, splits.test)).micro.f1,
        "dictionary": score_entities(gold, [dictionary.tag(s.words) for s in splits.test]).micro.f1,
    }


def train_peer(
    settings: Settings, splits: pii.Splits, ours: History, labels: list[str], to_the_end: bool
) -> Peer:
    """The same run with Hugging Face's model: its first steps, or all of it with its test F1."""
    config = settings.config
    torch.manual_seed(config.seed)
    model = transformers.BertForTokenClassification.from_pretrained(
        assets.fetch(ENCODER), num_labels=len(labels), dtype=torch.float32
    )
    set_dropout(model, config.dropout)
    peer = Tagger(model, minift.load_tokenizer(ENCODER), labels)
    batches = peer.batches(splits.train, config)
    if to_the_end:
        valid = splits.valid
        history = train(
            model, batches, config, evaluate=lambda: peer.evaluate(valid, "valid").micro.f1
        )
        losses, f1 = history.losses, peer.evaluate(splits.test).micro.f1
    else:
        losses, f1 = first_losses(model, batches(0), config, settings.hf_steps), None
    pairs = zip(ours.losses[: len(losses)], losses, strict=True)
    return Peer(len(losses), max(abs(a - b) for a, b in pairs), f1)


def tag_unseen(tagger: Tagger) -> list[tuple[str, list[dict[str, Any]]]]:
    """The unseen sentences with the entities found in them."""
    return [(text, tagger.entities(text)) for text in UNSEEN]


def attention_of(tagger: Tagger, text: str) -> tuple[Tensor, list[str]]:
    """The last layer's attention between the text's tokens, mean over heads ``(T, T)``.

    [CLS] and [SEP], which take most of the weight whatever the text, are left out; the rows are
    not scaled up for it.
    """
    pieces = tagger.tokenizer.tokenize(text)
    input_ids = tagger.tokenizer(text)["input_ids"]
    with torch.inference_mode():
        output = tagger.model(input_ids, output_attentions=True)
    weights = output.attentions[-1][0].mean(0)  # (H, T + 2, T + 2) -> (T + 2, T + 2)
    return weights[1:-1, 1:-1], pieces.tokens


def verify_kernels(quick: bool) -> list[Any] | None:
    """The kernel verification's rows; None where there is no Triton (macOS, Windows)."""
    from importlib.util import find_spec

    if find_spec("triton") is None:
        return None
    from kernels.verification.verify import verify

    return list(verify(quick=quick))


def reload_in_transformers(folder: Path, tagger: Tagger) -> bool:
    """Whether ``transformers`` reads the saved folder and finds the same logits."""
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = tokenizer(list(UNSEEN), padding=True, return_tensors="pt")
    ours = tagger.tokenizer(list(UNSEEN), padding=True)
    if not torch.equal(theirs["input_ids"], ours["input_ids"]):
        return False
    with torch.inference_mode():
        gap: Tensor = model.eval()(**theirs).logits - tagger.model(**ours).logits
    return bool(gap[ours["attention_mask"].bool()].abs().max() <= 1e-4)
