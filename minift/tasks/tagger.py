"""A tagger you can train, score, use, save and load: model, tokenizer and label set together."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import minift
from minift.data.batches import Batch
from minift.data.bio import entities
from minift.data.conll import Sentence, entity_types
from minift.data.words import split_words
from minift.errors import InputError
from minift.files import new_folder, write_json
from minift.models.checkpoint import read_config_file
from minift.models.loading import checkpoint_folder
from minift.tasks.entity_metrics import Report, score_entities
from minift.tasks.token_classification import (
    Example,
    batches_of,
    encode,
    label_names,
    predict_tags,
)
from minift.text.tokenizer import Tokenizer
from minift.training import History, TrainConfig, train
from minift.training.dropout import set_dropout
from minift.training.loop import Observer


@dataclass
class Tagger:
    """A token classifier with what it takes to use it.

    Attributes:
        model: returns ``.logits`` of shape ``(B, T, len(labels))``, and ``.loss`` with labels.
        tokenizer: text to ids.
        labels: the tags by class number, ``O`` first.
    """

    model: nn.Module
    tokenizer: Tokenizer
    labels: list[str]

    def __post_init__(self) -> None:
        size = int(self.model.config.vocab_size)  # type: ignore[union-attr, arg-type]
        if self.tokenizer.vocab_size > size:
            raise InputError(
                f"tokenizer: {self.tokenizer.vocab_size} tokens, but the model embeds {size}; "
                "right would be the tokenizer that the model was trained with"
            )

    @classmethod
    def from_encoder(
        cls, name_or_path: str | os.PathLike[str], labels: Sequence[str], *, seed: int = 0
    ) -> "Tagger":
        """A pretrained encoder with a new, random classification head."""
        torch.manual_seed(seed)
        id2label = dict(enumerate(labels))
        model = minift.load(name_or_path, task="token-classification", id2label=id2label)
        return cls(model, minift.load_tokenizer(name_or_path), list(labels))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Tagger":
        """A tagger that :meth:`save` wrote, or a Hugging Face token classifier's folder.

        Raises:
            InputError: the folder holds no token classifier that minift can read.
        """
        model = minift.load(folder)
        labels = getattr(model.config, "id2label", None)
        if type(model).__name__ != "BertForTokenClassification" or not labels:
            raise InputError(
                f"model: {os.fspath(folder)} holds a {type(model).__name__}; right would be a "
                "folder that 'minift finetune token-classification --out' wrote"
            )
        names = [labels[i] for i in sorted(labels)]
        return cls(model, minift.load_tokenizer(folder), names)

    def save(self, folder: str | os.PathLike[str], metrics: dict[str, Any] | None = None) -> None:
        """Write model and tokenizer as a folder that ``transformers`` loads, whole or not at all.

        ``AutoModelForTokenClassification`` and ``AutoTokenizer`` read it; ``metrics`` goes into
        ``metrics.json`` beside them.
        """
        with new_folder(folder) as temporary:
            minift.save(self.model, temporary)
            self.tokenizer.save(temporary)
            if metrics is not None:
                write_json(temporary / "metrics.json", metrics)

    def fit(
        self,
        sentences: Sequence[Sentence],
        valid: Sequence[Sentence],
        config: TrainConfig,
        observe: Observer | None = None,
    ) -> History:
        """Train on ``sentences``; the model ends with the weights of the best validation F1."""
        set_dropout(self.model, config.dropout)
        held_out = self.encode(valid, "valid")
        return train(
            self.model,
            self.batches(sentences, config),
            config,
            evaluate=lambda: self._score(held_out, valid).micro.f1,
            observe=observe,
        )

    def batches(
        self, sentences: Sequence[Sentence], config: TrainConfig
    ) -> Callable[[int], list[Batch]]:
        """The training batches of each epoch, as :meth:`fit` sees them."""
        return batches_of(self.encode(sentences, "train"), config, self.pad_token_id)

    def evaluate(self, sentences: Sequence[Sentence], source: str = "test") -> Report:
        """Entity and word scores on labelled sentences."""
        return self._score(self.encode(sentences, source), sentences)

    def tag(self, sentences: Sequence[Sentence], source: str = "sentences") -> list[list[str]]:
        """The predicted tag of every word."""
        examples = self.encode(sentences, source)
        return predict_tags(self.model, examples, self.labels, self.pad_token_id)

    def entities(self, text: str, source: str = "text") -> list[dict[str, Any]]:
        """The entities of a raw text: ``{"type", "start", "end", "text"}``, in characters."""
        words = split_words(text)
        if not words:
            return []
        sentence = Sentence(tuple(word.text for word in words), ("O",) * len(words))
        tags = self.tag([sentence], source)[0]
        spans = [(e.type, words[e.start].start, words[e.end - 1].end) for e in entities(tags)]
        return [{"type": t, "start": a, "end": b, "text": text[a:b]} for t, a, b in spans]

    def encode(self, sentences: Sequence[Sentence], source: str) -> list[Example]:
        """The sentences as ids and labels; an error names ``source`` and the line."""
        return encode(sentences, self.tokenizer, self.labels, self.max_length, source)

    @property
    def max_length(self) -> int:
        """The most word pieces the model takes, [CLS] and [SEP] included."""
        limit = int(self.model.config.max_position_embeddings)  # type: ignore[union-attr, arg-type]
        return min(limit, self.tokenizer.model_max_length)

    @property
    def pad_token_id(self) -> int:
        return self.tokenizer.pad_token_id or 0

    def _score(self, examples: Sequence[Example], sentences: Sequence[Sentence]) -> Report:
        predicted = predict_tags(self.model, examples, self.labels, self.pad_token_id)
        return score_entities([s.tags for s in sentences], predicted)


def new_tagger(
    name_or_path: str | os.PathLike[str], sentences: Sequence[Sentence], seed: int
) -> Tagger:
    """A tagger to train: a new head on an encoder, or a tagger that knows all the types already.

    Raises:
        InputError: the folder holds a tagger of other entity types.
    """
    data = read_config_file(checkpoint_folder(name_or_path))
    if "BertForTokenClassification" in (data.get("architectures") or []):
        tagger = Tagger.load(name_or_path)
        held = sorted({tag[2:] for tag in tagger.labels if tag != "O"})
        missing = [type_ for type_ in entity_types(sentences) if type_ not in held]
        if missing:
            raise InputError(
                f"model: {os.fspath(name_or_path)} is a tagger of {', '.join(held)}; it has no "
                f"{', '.join(missing)}; right would be an encoder such as minilm"
            )
        return tagger
    return Tagger.from_encoder(name_or_path, label_names(sentences), seed=seed)
