"""What BERT is trained for: heads on top of the encoder, and the family's table of names.

    pretraining      masked words and "does B follow A?", both at once (Devlin et al. 2019, 3.1)
    fine-tuning      a label for each text, or for each token

B: batch, T: tokens, C: hidden size, V: vocabulary, K: classes. The numbers, dropout from the same
seed included, are those of Hugging Face's classes of the same names.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minift.errors import InputError
from minift.layers.activation import activation
from minift.models.bert import BertConfig, BertModel
from minift.models.checks import check_labels
from minift.models.family import Family
from minift.models.init import init_weights
from minift.models.losses import text_loss
from minift.models.output import ModelOutput


class MaskedLMHead(nn.Module):
    """Scores for every word: ``logits = norm(act(W x + b)) · wordᵀ + bias``, (…, C) → (…, V).

    Where ``tie_word_embeddings`` holds, ``decoder`` is ``None`` and the word embedding is used, so
    that only ``bias`` is new. Where it does not, ``decoder`` has a weight and a bias of its own,
    and nothing reads ``bias``, which is kept because Hugging Face's files have it.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.transform = nn.Linear(hidden, hidden)
        self.act = activation(config.hidden_act)
        self.norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.decoder: nn.Linear | None = nn.Linear(hidden, config.vocab_size)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """``words: (V, C)`` is the word embedding's table."""
        x = self.norm(self.act(self.transform(x)))
        return F.linear(x, words, self.bias) if self.decoder is None else self.decoder(x)


class _BertWithHead(nn.Module):
    """An encoder under Hugging Face's name for it; a subclass adds the head."""

    def __init__(self, config: BertConfig, pooling: bool) -> None:
        super().__init__()
        self.config = config
        self.bert = BertModel(config, pooling=pooling)

    def _start(self, *heads: nn.Module) -> None:
        """Random weights for new heads; a tied decoder is drawn and dropped, as theirs is."""
        for head in heads:
            head.apply(lambda module: init_weights(module, self.config.initializer_range))
            if isinstance(head, MaskedLMHead) and self.config.tie_word_embeddings:
                head.decoder = None

    def _words(self) -> Tensor:
        return self.bert.embeddings.word.weight  # (V, C)

    def _classifier(self) -> tuple[nn.Dropout, nn.Linear]:
        """Dropout and one product, ``len(id2label)`` classes wide: two if there are no names."""
        config, own = self.config, self.config.classifier_dropout
        dropout = nn.Dropout(config.hidden_dropout_prob if own is None else own)
        return dropout, nn.Linear(config.hidden_size, len(config.id2label or "01"))


class BertForPreTraining(_BertWithHead):
    """Both tasks of BERT's pretraining: masked words, and a pair's second sentence.

    ``seq_relationship`` looks at the pooled first token. Class 0 says "B follows A". What class 1
    means is up to the data: a sentence from elsewhere (next-sentence prediction, NSP), or the two
    in exchanged order (sentence-order prediction, SOP; Lan et al. 2020, arXiv:1909.11942, 3.1).
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, pooling=True)
        self.predictions = MaskedLMHead(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)
        self._start(self.predictions, self.seq_relationship)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        **wanted: bool,
    ) -> ModelOutput:
        """``logits (B, T, V)`` (theirs: ``prediction_logits``), ``seq_relationship_logits (B, 2)``.

        Args:
            labels: ``(B, T)``, the words under the masks, −100 everywhere else.
            next_sentence_label: ``(B,)``, 0 or 1. With both labels, ``loss`` is the sum of the two
                mean cross-entropies.
            wanted: ``output_hidden_states`` and ``output_attentions``, as ``BertModel`` takes them.

        Raises:
            InputError: as ``BertModel``; labels outside their classes, or one without the other.
        """
        if (labels is None) != (next_sentence_label is None):
            given, missing = "labels", "next_sentence_label"
            if labels is None:
                given, missing = missing, given
            raise InputError(f"{missing}: None together with {given}; right: both, or neither")
        output = self.bert(input_ids, attention_mask, token_type_ids, **wanted)
        output.logits = self.predictions(output.last_hidden_state, self._words())
        output.seq_relationship_logits = self.seq_relationship(_taken(output))
        if labels is not None and next_sentence_label is not None:
            output.loss = _token_loss(output.logits, labels) + text_loss(
                output.seq_relationship_logits, next_sentence_label, "single_label_classification"
            )
        return output


class BertForMaskedLM(_BertWithHead):
    """Guesses masked words: ``logits (B, T, V)``."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, pooling=False)
        self.predictions = MaskedLMHead(config)
        self._start(self.predictions)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **wanted: bool,
    ) -> ModelOutput:
        """With ``labels (B, T)``, ``loss`` is the mean cross-entropy over those that are not −100.

        ``wanted`` and what is raised: as ``BertForPreTraining``.
        """
        output = self.bert(input_ids, attention_mask, token_type_ids, **wanted)
        output.logits = self.predictions(output.last_hidden_state, self._words())
        if labels is not None:
            output.loss = _token_loss(output.logits, labels)
        return output


class BertForNextSentencePrediction(_BertWithHead):
    """Does the second sentence follow the first? ``logits (B, 2)``, class 0 says that it does."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, pooling=True)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)
        self._start(self.seq_relationship)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **wanted: bool,
    ) -> ModelOutput:
        """With ``labels (B,)``, 0 or 1 or −100 (ignored), ``loss`` is the mean cross-entropy."""
        output = self.bert(input_ids, attention_mask, token_type_ids, **wanted)
        output.logits = self.seq_relationship(_taken(output))
        if labels is not None:
            output.loss = text_loss(output.logits, labels, "single_label_classification")
        return output


class BertForSequenceClassification(_BertWithHead):
    """Labels or numbers for a whole text: ``logits = W · dropout(pooled first token) + b``.

    ``config.id2label`` names the classes (two, LABEL_0 and LABEL_1, when it is ``None``) and
    ``config.problem_type`` says what they are: see ``minift.models.losses.text_loss``.
    """

    has_labels = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, pooling=True)
        self.dropout, self.classifier = self._classifier()
        self._start(self.classifier)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **wanted: bool,
    ) -> ModelOutput:
        """``logits (B, K)``, and ``loss`` when ``labels`` are given, in ``text_loss``'s shapes."""
        output = self.bert(input_ids, attention_mask, token_type_ids, **wanted)
        output.logits = self.classifier(self.dropout(_taken(output)))
        if labels is not None:
            output.loss = text_loss(output.logits, labels, self.config.problem_type)
        return output


class BertForTokenClassification(_BertWithHead):
    """A label for every token: ``logits = W · dropout(encoder(x)) + b``, ``(B, T, K)``.

    ``config.id2label`` names the classes (two, LABEL_0 and LABEL_1, when it is ``None``).
    """

    has_labels = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, pooling=False)
        self.dropout, self.classifier = self._classifier()
        self._start(self.classifier)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **wanted: bool,
    ) -> ModelOutput:
        """With ``labels (B, T)``, ``loss`` is the mean cross-entropy over those that are not −100.

        ``wanted`` and what is raised: as ``BertForPreTraining``.
        """
        output = self.bert(input_ids, attention_mask, token_type_ids, **wanted)
        output.logits = self.classifier(self.dropout(output.last_hidden_state))
        if labels is not None:
            output.loss = _token_loss(output.logits, labels)
        return output


def _taken(output: ModelOutput) -> Tensor:
    """The pooled first token ``(B, C)``, out of the output: a head's has none, as theirs."""
    pooled, output.pooler_output = output.pooler_output, None
    assert pooled is not None
    return pooled


def _token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy of ``logits (B, T, K)`` over the ``labels (B, T)`` that count."""
    classes = logits.shape[-1]
    check_labels(labels, tuple(logits.shape[:2]), classes)
    return F.cross_entropy(logits.view(-1, classes), labels.view(-1))


FAMILY = Family(
    config=BertConfig,
    prefix="bert",
    classes={
        "BertModel": BertModel,
        "BertForPreTraining": BertForPreTraining,
        "BertForMaskedLM": BertForMaskedLM,
        "BertForNextSentencePrediction": BertForNextSentencePrediction,
        "BertForSequenceClassification": BertForSequenceClassification,
        "BertForTokenClassification": BertForTokenClassification,
    },
    tasks={
        "encoder": BertModel,
        "pretraining": BertForPreTraining,
        "masked-lm": BertForMaskedLM,
        "next-sentence": BertForNextSentencePrediction,
        "sequence-classification": BertForSequenceClassification,
        "token-classification": BertForTokenClassification,
    },
    names={
        "embeddings.word": "embeddings.word_embeddings",
        "embeddings.position": "embeddings.position_embeddings",
        "embeddings.token_type": "embeddings.token_type_embeddings",
        "embeddings.norm": "embeddings.LayerNorm",
        "layers.{i}.attention.query": "encoder.layer.{i}.attention.self.query",
        "layers.{i}.attention.key": "encoder.layer.{i}.attention.self.key",
        "layers.{i}.attention.value": "encoder.layer.{i}.attention.self.value",
        "layers.{i}.attention.output": "encoder.layer.{i}.attention.output.dense",
        "layers.{i}.attention.norm": "encoder.layer.{i}.attention.output.LayerNorm",
        "layers.{i}.feed_forward.up": "encoder.layer.{i}.intermediate.dense",
        "layers.{i}.feed_forward.down": "encoder.layer.{i}.output.dense",
        "layers.{i}.norm": "encoder.layer.{i}.output.LayerNorm",
        "pooler": "pooler.dense",
        "predictions.bias": "cls.predictions.bias",
        "predictions.transform": "cls.predictions.transform.dense",
        "predictions.norm": "cls.predictions.transform.LayerNorm",
        "predictions.decoder": "cls.predictions.decoder",
        "seq_relationship": "cls.seq_relationship",
        "classifier": "classifier",
    },
    ignorable=(
        r"embeddings\.position_ids",  # a buffer 0, 1, 2, … that old versions saved
        r"pooler\.dense\.(weight|bias)",  # by a model without one
        # files of a whole pretraining whose config says BertForMaskedLM, such as bert-base-uncased
        r"cls\.seq_relationship\.(weight|bias)",
    ),
    heads=(r"cls\..*", r"classifier\..*", r"qa_outputs\..*"),
    lasting=(r"cls\..*",),
    optional=("pooler",),
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word.weight",
        "cls.predictions.decoder.bias": "predictions.bias",
    },
)
