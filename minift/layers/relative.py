"""Relative positions as a bias of the attention scores, as T5 has them."""

import math

import torch
from torch import Tensor, nn


class RelativeBias(nn.Module):
    """A learned number for each head and each class of distances: ``(1, H, M, N)``.

    Distance ``d = j − i`` between key j and query i falls into a bucket: near distances have one
    each, far ones share buckets that grow with the logarithm, and from ``max_distance`` on there
    is one for all. An encoder uses half of the buckets for keys before the query and half for
    those after it; a decoder sees none after it. Raffel et al. 2020 (arXiv:1910.10683),
    section 2.1. Hugging Face: ``T5Attention.compute_bias``.
    """

    def __init__(self, buckets: int, max_distance: int, heads: int, bidirectional: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(buckets, heads)
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    def forward(self, queries: int, keys: int) -> Tensor:
        """For the last ``queries`` of ``keys`` positions."""
        places = torch.arange(keys, device=self.table.weight.device)
        distances = places[None, :] - places[keys - queries :, None]  # (M, N)
        values = self.table(self.buckets(distances))  # (M, N, H)
        return values.permute(2, 0, 1)[None]  # (1, H, M, N)

    def buckets(self, distances: Tensor) -> Tensor:
        """The bucket of each distance ``j − i``; any shape."""
        count = self.table.num_embeddings
        if not self.bidirectional:
            return self._by_size((-distances).clamp(min=0), count)
        half = count // 2
        return self._by_size(distances.abs(), half) + half * (distances > 0)

    def _by_size(self, size: Tensor, count: int) -> Tensor:
        """Of ``count`` buckets the first half one a distance, the others by the logarithm."""
        exact = count // 2
        share = torch.log(size.float() / exact) / math.log(self.max_distance / exact)
        coarse = exact + (share * (count - exact)).long()  # −∞ at distance 0, which is near
        return size.where(size < exact, coarse.clamp(max=count - 1))
