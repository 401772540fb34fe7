"""What came before attention: an LSTM and a text CNN, from their formulas.

    LSTM   i, f, o = σ(W x + U h + b)  each with its own W, U and b; g = tanh(W x + U h + b)
           c = f · c + i · g           the memory: keep some of it, write something new
           h = o · tanh(c)             what is shown of it
    CNN    y_t = W · [x_{t−w+1}; …; x_t] + b       one matrix on every window of w words

Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000; Kim 2014 (arXiv:1408.5882).
B: batch, T: tokens, C: features in, H: hidden size, F: filters, V: vocabulary. A text is padded on
the right. The counterparts are ``torch.nn.LSTM`` and ``torch.nn.Conv1d``.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minift.errors import InputError
from minift.layers.loss import next_token_loss
from minift.models.checks import check_inputs, check_labels
from minift.models.output import ModelOutput

State = tuple[Tensor, Tensor]


class LSTMDirection(nn.Module):
    """One layer in one direction. The gates' four products are stacked as i, f, g, o."""

    def __init__(self, input_size: int, hidden_size: int, reverse: bool = False) -> None:
        super().__init__()
        self.reverse = reverse
        self.input = nn.Linear(input_size, 4 * hidden_size)
        self.hidden = nn.Linear(hidden_size, 4 * hidden_size)

    def cell(self, from_input: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step: ``input(x_t) (B, 4H)`` and the state → the new ``h, c (B, H)`` and the gates.

        The gates ``(B, 4, H)`` are i (write), f (keep), g (what to write) and o (show).
        """
        i, f, g, o = (from_input + self.hidden(h)).chunk(4, dim=-1)  # (B, H) each
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        return o * c.tanh(), c, torch.stack([i, f, g, o], dim=1)

    def forward(self, x: Tensor, real: Tensor, state: State) -> tuple[Tensor, State]:
        """``x (B, T, C)`` → ``(B, T, H)`` and the last state, ``(B, H)`` each.

        Where ``real (B, T)`` is False the state stays as it is and the output is 0.
        """
        (h, c), from_input = state, self.input(x)  # (B, T, 4H)
        outputs = [h] * x.shape[1]
        for t in reversed(range(x.shape[1])) if self.reverse else range(x.shape[1]):
            new_h, new_c, _ = self.cell(from_input[:, t], h, c)
            here = real[:, t, None]  # (B, 1)
            h, c = torch.where(here, new_h, h), torch.where(here, new_c, c)
            outputs[t] = h * here
        return torch.stack(outputs, dim=1), (h, c)


class LSTM(nn.Module):
    """Layers of LSTM on top of each other, each in one direction or in both.

    ``torch.nn.LSTM(…, batch_first=True)`` is the same; its packed sequences are ``lengths`` here.
    Dropout is between the layers.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        directions = (False, True) if bidirectional else (False,)
        wide = len(directions) * hidden_size
        self.states = num_layers * len(directions)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                LSTMDirection(wide if layer else input_size, hidden_size, reverse)
                for reverse in directions
            )
            for layer in range(num_layers)
        )
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: State | None = None
    ) -> tuple[Tensor, State]:
        """``x (B, T, C)`` → outputs ``(B, T, directions · H)`` and the last state.

        Args:
            lengths: ``(B,)``, tokens of each text, 1 to T; ``None``: all T. Outputs beyond are 0.
            state: h and c to start from, ``(layers · directions, B, H)`` each; ``None``: zeros.

        Returns:
            The outputs of the last layer, forwards and backwards side by side, and (h, c) of each
            layer and direction after its last token (backwards: after the first).
        """
        batch, length, _ = x.shape
        real = _real(lengths, batch, length, x.device)
        if state is None:
            zeros = x.new_zeros(self.states, batch, self.hidden_size)
            state = zeros, zeros
        starts, ends = iter(zip(*state, strict=True)), []
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.ModuleList)
            x = self.dropout(x) if number else x
            results = [direction(x, real, next(starts)) for direction in layer]
            x = torch.cat([output for output, _ in results], dim=-1)  # (B, T, directions · H)
            ends += [end for _, end in results]
        h, c = (torch.stack(part) for part in zip(*ends, strict=True))
        return x, (h, c)


class CausalConv(nn.Module):
    """``y_t = W · [x_{t−w+1}; …; x_t] + b``: each place sees itself and w − 1 places before it.

    ``x (B, T, C)`` → ``(B, T, F)``; before the first token there are zeros. ``torch.nn.Conv1d``
    has the same weight, ``(F, C, w)``, and wants its input as (B, C, T + w − 1), padded.
    """

    def __init__(self, input_size: int, filters: int, width: int) -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"width: {width}; right: at least 1")
        self.width = width
        bound = (input_size * width) ** -0.5
        self.weight = nn.Parameter(torch.empty(filters, input_size, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(filters).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, self.width - 1, 0))  # (B, T + w − 1, C)
        windows = padded.unfold(1, self.width, 1)  # (B, T, C, w)
        return windows.flatten(2) @ self.weight.flatten(1).T + self.bias  # (B, T, F)


def max_over_time(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The largest value of each filter over the real tokens: ``(B, T, F)`` → ``(B, F)``."""
    real = _real(lengths, x.shape[0], x.shape[1], x.device)
    return x.masked_fill(~real[..., None], -math.inf).amax(dim=1)


class LSTMLanguageModel(nn.Module):
    """The next word from an LSTM's state: ``logits_t = W · h_t + b``, ``(B, T, V)``."""

    def __init__(
        self, vocab_size: int, hidden_size: int, num_layers: int = 1, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, hidden_size)
        self.lstm = LSTM(hidden_size, hidden_size, num_layers, dropout=dropout)
        self.head = nn.Linear(hidden_size, vocab_size)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> ModelOutput:
        """``labels (B, T)`` as ``input_ids``, −100 is ignored: place t is held against t + 1."""
        x = _embed(self.token, input_ids, attention_mask)  # (B, T, H)
        x, _ = self.lstm(x, _lengths(attention_mask))
        return _language_model_output(x, self.head, labels)


class CNNLanguageModel(nn.Module):
    """The next word from the last few: ``x = x + relu(conv(x))`` for each layer, then a product.

    L layers of width w see ``reach = 1 + L (w − 1)`` words and nothing before them.
    """

    def __init__(self, vocab_size: int, hidden_size: int, num_layers: int, width: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, hidden_size)
        self.layers = nn.ModuleList(
            CausalConv(hidden_size, hidden_size, width) for _ in range(num_layers)
        )
        self.head = nn.Linear(hidden_size, vocab_size)
        self.reach = 1 + num_layers * (width - 1)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> ModelOutput:
        """As ``LSTMLanguageModel``."""
        x = _embed(self.token, input_ids, attention_mask)  # (B, T, H)
        for layer in self.layers:
            x = x + layer(x).relu()
        return _language_model_output(x, self.head, labels)


class LSTMClassifier(nn.Module):
    """A label for a text from the last states of a bidirectional LSTM: ``(B, classes)``."""

    def __init__(
        self, vocab_size: int, hidden_size: int, classes: int, num_layers: int = 1
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, hidden_size)
        self.lstm = LSTM(hidden_size, hidden_size, num_layers, bidirectional=True)
        self.classifier = nn.Linear(2 * hidden_size, classes)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> ModelOutput:
        """``labels (B,)``: a class for each text."""
        x = _embed(self.token, input_ids, attention_mask)  # (B, T, H)
        _, (h, _) = self.lstm(x, _lengths(attention_mask))  # (layers · 2, B, H)
        return _classifier_output(torch.cat([h[-2], h[-1]], dim=-1), self.classifier, labels)


class TextCNN(nn.Module):
    """A label for a text: does any window look like …? (Kim 2014, section 2)

    ``logits = W · dropout([max_t relu(conv_w(x))_t for each width w]) + b``, ``(B, classes)``.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        classes: int,
        *,
        widths: Sequence[int] = (3, 4, 5),
        filters: int = 100,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, hidden_size)
        self.convolutions = nn.ModuleList(CausalConv(hidden_size, filters, w) for w in widths)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(len(widths) * filters, classes)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> ModelOutput:
        """``labels (B,)``: a class for each text."""
        x = _embed(self.token, input_ids, attention_mask)  # (B, T, C)
        lengths = _lengths(attention_mask)
        pooled = [max_over_time(conv(x).relu(), lengths) for conv in self.convolutions]  # (B, F)
        features = self.dropout(torch.cat(pooled, dim=-1))  # (B, widths · F)
        return _classifier_output(features, self.classifier, labels)


def _real(lengths: Tensor | None, batch: int, length: int, device: torch.device) -> Tensor:
    """``(B, T)``: True for the tokens of each text."""
    if lengths is None:
        return torch.ones(batch, length, dtype=torch.bool, device=device)
    if lengths.shape != (batch,) or int(lengths.min()) < 1 or int(lengths.max()) > length:
        raise InputError(
            f"lengths: {lengths.tolist()}; right: for each of {batch} texts 1 to {length} tokens"
        )
    return torch.arange(length, device=device) < lengths[:, None].to(device)


def _lengths(attention_mask: Tensor | None) -> Tensor | None:
    """Tokens of each text, from a mask that is padded on the right."""
    if attention_mask is None:
        return None
    if bool((attention_mask[:, 1:] > attention_mask[:, :-1]).any()):
        raise InputError("attention_mask: padding on the left; right: pad on the right")
    return (attention_mask != 0).sum(-1)


def _embed(table: nn.Embedding, ids: Tensor, mask: Tensor | None) -> Tensor:
    check_inputs(ids, mask, vocab_size=table.num_embeddings, max_positions=ids.shape[-1])
    embedded: Tensor = table(ids)
    return embedded


def _language_model_output(x: Tensor, head: nn.Linear, labels: Tensor | None) -> ModelOutput:
    logits = head(x)  # (B, T, V)
    output = ModelOutput(logits=logits, last_hidden_state=x)
    if labels is not None:
        check_labels(labels, tuple(x.shape[:2]), head.out_features)
        output.loss = next_token_loss(logits, labels)
    return output


def _classifier_output(x: Tensor, head: nn.Linear, labels: Tensor | None) -> ModelOutput:
    logits = head(x)  # (B, classes)
    output = ModelOutput(logits=logits)
    if labels is not None:
        check_labels(labels, (len(x),), head.out_features)
        output.loss = F.cross_entropy(logits, labels)
    return output
