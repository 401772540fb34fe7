"""The position-wise feed-forward network (Vaswani et al. 2017, section 3.3)."""

from torch import Tensor, nn

from minift.layers.activation import activation


class FeedForward(nn.Module):
    """``dropout(W₂ act(W₁ x + b₁) + b₂)``, the same for every position.

    ``x: (..., hidden)`` in and out; ``inner`` is the width between. BERT calls the two products
    ``intermediate.dense`` and ``output.dense``, GPT-2 ``c_fc`` and ``c_proj``. A few models also
    drop what comes out of ``act``, with probability ``inner_dropout``.
    """

    def __init__(
        self,
        hidden: int,
        inner: int,
        act: str,
        dropout: float = 0.0,
        inner_dropout: float = 0.0,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.up = nn.Linear(hidden, inner, bias=bias)
        self.down = nn.Linear(inner, hidden, bias=bias)
        self.act = activation(act)
        self.dropout = nn.Dropout(dropout)
        self.inner_dropout = nn.Dropout(inner_dropout) if inner_dropout else None

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act(self.up(x))
        if self.inner_dropout is not None:
            inner = self.inner_dropout(inner)
        return self.dropout(self.down(inner))


class GatedFeedForward(nn.Module):
    """``W_down (act(W_gate x) ⊙ W_up x)``: one product opens and closes the other.

    ``x: (..., hidden)`` in and out. With ``act`` "silu" it is called SwiGLU (Llama), with GELU
    GeGLU (Gemma, T5 1.1). Shazeer 2020 (arXiv:2002.05202), equation 6. Hugging Face: ``LlamaMLP``.
    A few models also drop some of what enters ``W_down``, with probability ``inner_dropout``.
    """

    def __init__(
        self, hidden: int, inner: int, act: str, inner_dropout: float = 0.0, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, inner, bias=bias)
        self.up = nn.Linear(hidden, inner, bias=bias)
        self.down = nn.Linear(inner, hidden, bias=bias)
        self.act = activation(act)
        self.inner_dropout = nn.Dropout(inner_dropout) if inner_dropout else None

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act(self.gate(x)) * self.up(x)
        return self.down(inner if self.inner_dropout is None else self.inner_dropout(inner))
