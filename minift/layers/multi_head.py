"""Multi-head attention with its four products (Vaswani et al. 2017, section 3.2.2)."""

from torch import Tensor, nn

from minift.layers.attention import attention, eager_attention, merge_heads, split_heads


class MultiHeadAttention(nn.Module):
    """``W_o · [head 1, …, head H]``; head h is attention over slice h of q, k and v.

        q = W_q x        k, v = W_k m, W_v m        m: the memory, x itself in self-attention

    B: batch, T: queries, N: keys, C: hidden size, H: heads, D = C / H. ``torch.nn`` has it as
    ``MultiheadAttention``, with the first three weights glued into ``in_proj_weight``.
    """

    def __init__(
        self, hidden: int, heads: int, *, dropout_p: float = 0.0, qkv_bias: bool = True
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout_p = dropout_p
        self.query = nn.Linear(hidden, hidden, bias=qkv_bias)
        self.key = nn.Linear(hidden, hidden, bias=qkv_bias)
        self.value = nn.Linear(hidden, hidden, bias=qkv_bias)
        self.output = nn.Linear(hidden, hidden)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """``memory (B, N, C)`` → keys and values, ``(B, H, N, D)`` each: what a cache keeps."""
        return split_heads(self.key(memory), self.heads), split_heads(
            self.value(memory), self.heads
        )

    def forward(
        self,
        x: Tensor,
        keys_values: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        want_probabilities: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """``x (B, T, C)`` → ``(B, T, C)``, and the probabilities ``(B, H, T, N)`` if wanted.

        Args:
            keys_values: of the memory, from ``keys_values``; ``None``: those of ``x``.
            mask: boolean, broadcastable to ``(B, H, T, N)``; ``True`` where a key may be seen.
            want_probabilities: compute by the formula, which has them; else the second is ``None``.
        """
        q = split_heads(self.query(x), self.heads)  # (B, H, T, D)
        k, v = self.keys_values(x) if keys_values is None else keys_values
        dropout_p = self.dropout_p if self.training else 0.0
        probabilities = None  # (B, H, T, N)
        if want_probabilities:
            y, probabilities = eager_attention(q, k, v, mask=mask, dropout_p=dropout_p)
        else:
            y = attention(q, k, v, mask=mask, dropout_p=dropout_p)
        return self.output(merge_heads(y)), probabilities
