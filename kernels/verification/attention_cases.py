"""Cases of attention: shapes, layouts in memory, options and numbers, and their tensors."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

LAYOUTS = ("contiguous", "transposed", "padded", "interleaved", "expanded", "columns first")


@dataclass(frozen=True)
class AttentionCase:
    """Shapes, layout, options and numbers of one call of attention."""

    m: int = 17
    n: int = 33
    d: int = 16
    dtype: torch.dtype = torch.float32
    heads: int = 2
    kv_heads: int = 1
    batch: int = 1
    layout: str = "contiguous"  # of q; k, v and dout have the next of LAYOUTS
    scale: float | None = None
    spread: float = 1.0  # standard deviation of q and k
    causal: bool = False
    window: int | None = None
    softcap: float | None = None
    alibi: bool = False
    bias: str = ""  # which of its dimensions are full: "bhmn", "hmn", "bn", ...
    sinks: bool = False
    key_mask: str = ""  # "left" or "right" padding, "holes", or "nothing": one sequence has no key
    dropout_p: float = 0.0
    packed: tuple[tuple[int, int], ...] = ()  # queries and keys of each sequence, instead of m, n
    lse_gradient: bool = False
    blocks: tuple[int, int] | None = (16, 16)  # (BLOCK_M, BLOCK_N), or None for the shipped ones
    backward: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.packed:
            object.__setattr__(self, "m", sum(m for m, _ in self.packed))
            object.__setattr__(self, "n", sum(n for _, n in self.packed))
            object.__setattr__(self, "batch", 1)

    def layouts(self, module: Any) -> dict[str, Any] | None:
        """The tile sizes of every kernel, if they are not the shipped ones."""
        if self.blocks is None:
            return None
        layout = module.Layout(*self.blocks, 4, 1)
        return dict.fromkeys(("forward", "dq", "dkv", "dbias"), layout)


class Inputs:
    """The tensors of a case. Whatever memory lies between their elements holds NaN."""

    def __init__(self, case: AttentionCase) -> None:
        self.case = case
        self.generator = torch.Generator().manual_seed(case.seed)
        first = LAYOUTS.index(case.layout)
        shapes = [(case.heads, case.m), *2 * [(case.kv_heads, case.n)], (case.heads, case.m)]
        spreads = (case.spread, case.spread, 1.0, 1.0)
        self.q, self.k, self.v, self.dout = (
            laid_out(
                self.random(case.batch, heads, length, case.d) * spread,
                case.dtype,
                LAYOUTS[(first + i) % len(LAYOUTS)],
            )
            for i, ((heads, length), spread) in enumerate(zip(shapes, spreads, strict=True))
        )
        self.dlse = self.random(case.batch, case.heads, case.m) if case.lse_gradient else None

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options as ``reference.attention`` takes them."""
        case = self.case
        options: dict[str, Any] = {
            name: getattr(case, name) for name in ("scale", "causal", "window", "softcap")
        }
        if case.alibi:
            options["alibi_slopes"] = 2.0 ** -torch.arange(1, case.heads + 1.0)
        if case.bias:
            sizes = {"b": case.batch, "h": case.heads, "m": case.m, "n": case.n}
            shape = [size if name in case.bias else 1 for name, size in sizes.items()]
            options["bias"] = self.random(*shape)
        if case.sinks:
            options["sinks"] = self.random(case.heads)
        if case.key_mask:
            options["key_mask"] = self._key_mask()
        if case.packed:
            lengths = torch.tensor(((0, 0), *case.packed), dtype=torch.int32)
            cu = lengths.cumsum(0, dtype=torch.int32)
            options["cu_seqlens_q"], options["cu_seqlens_k"] = cu[:, 0].clone(), cu[:, 1].clone()
        return options

    def _key_mask(self) -> torch.Tensor:
        b, n = self.case.batch, self.case.n
        if self.case.key_mask in ("left", "right"):
            lengths = torch.randint(1, n + 1, (b, 1), generator=self.generator)
            mask = torch.arange(n)[None, :] < lengths
            return mask.flip(1) if self.case.key_mask == "left" else mask
        mask = torch.rand(b, n, generator=self.generator) > 0.4
        if self.case.key_mask == "nothing":
            mask[0] = False
        return mask

    def problem(self, module: Any) -> Any:
        """The options as ``call.forward`` and ``call.backward`` take them."""
        options, case = self.options, self.case
        reach = module.EVERYWHERE if case.window is None else case.window - 1
        names = ("bias", "sinks", "key_mask", "cu_seqlens_q", "cu_seqlens_k", "softcap")
        return module.Problem(
            scale=case.d**-0.5 if case.scale is None else case.scale,
            left=reach,
            right=0 if case.causal else reach,
            slopes=options.get("alibi_slopes"),
            dropout_p=case.dropout_p,
            seed=torch.tensor([case.seed + 5]),
            **{name: options.get(name) for name in names},
        )


def laid_out(values: torch.Tensor, dtype: torch.dtype, layout: str) -> torch.Tensor:
    """``values: (B, H, T, D)`` in memory as named: every way a caller's view may come."""
    b, h, t, d = values.shape
    empty = torch.full((b, h + 1, t + 3, 2 * d + 8), torch.nan, dtype=dtype)
    if layout == "contiguous":
        return values.to(dtype)
    if layout == "transposed":  # as a (B, T, H·D) projection is viewed
        view = torch.full((b, t, h, d), torch.nan, dtype=dtype).transpose(1, 2)
    elif layout == "padded":  # a window in a larger tensor: NaN before, after and beside
        view = empty[:, :h, 1 : t + 1, 3 : d + 3]
    elif layout == "interleaved":  # every second number
        view = empty[:, :h, :t, : 2 * d : 2]
    elif layout == "columns first":  # a transposed matrix: its rows are neighbours
        view = torch.full((b, h, d, t), torch.nan, dtype=dtype).mT
    elif layout == "expanded":  # one sequence for the whole batch, stride 0
        return values[:1].to(dtype).expand(b, h, t, d)
    else:
        raise ValueError(f"layout: unknown {layout!r}; known: {', '.join(LAYOUTS)}")
    return view.copy_(values)


# ---- the grid

FEATURES: dict[str, dict[str, Any]] = {
    "causal": {"causal": True},
    "window": {"window": 7},
    "softcap": {"softcap": 2.0},
    "alibi": {"alibi": True},
    "bias": {"bias": "hmn"},
    "sinks": {"sinks": True},
    "key_mask": {"key_mask": "holes", "batch": 2},
    "dropout": {"dropout_p": 0.25},
    "packed": {"packed": ((5, 9), (0, 3), (20, 14), (3, 0))},
    "lse_gradient": {"lse_gradient": True},
    "groups": {"heads": 4, "kv_heads": 2},
    "negative_scale": {"scale": -0.3},
}
_LENGTHS = ((17, 33), (33, 17), (1, 40), (40, 1), (16, 32), (31, 20), (2, 3), (25, 48))
_DIMS = (16, 24, 8, 40, 64)


def feature_cases(dtype: torch.dtype) -> dict[str, AttentionCase]:
    """Every feature alone and with every other one, over ragged lengths, head dims and layouts."""
    cases: dict[str, AttentionCase] = {}
    names = list(FEATURES)
    for a, first in enumerate(names):
        for second in names[a:]:
            n = len(cases)
            shape: dict[str, Any] = {
                "m": _LENGTHS[n % len(_LENGTHS)][0],
                "n": _LENGTHS[n % len(_LENGTHS)][1],
                "d": _DIMS[n % len(_DIMS)],
                "layout": LAYOUTS[n % len(LAYOUTS)],
                "heads": 1 + n % 2,
                "seed": n,
            }
            options = shape | FEATURES[first] | FEATURES[second]
            name = first if first == second else f"{first} + {second}"
            cases[name] = AttentionCase(dtype=dtype, **options)
    return cases


def shape_cases(dtype: torch.dtype) -> dict[str, AttentionCase]:
    """Plain and causal attention from one query to several tiles, head dims from 8 to 256."""
    shapes = [
        *((1, 1, 8), (17, 33, 24), (65, 100, 64), (133, 31, 40), (31, 133, 128), (64, 64, 16)),
        *((2, 65, 256), (100, 15, 80), (33, 40, 96), (48, 48, 32), (5, 70, 72), (32, 31, 200)),
    ]
    cases = {}
    for i, (m, n, d) in enumerate(shapes):
        for causal in (False, True):
            name = f"{m} x {n}, D = {d}" + (", causal" if causal else "")
            cases[name] = AttentionCase(
                *(m, n, d, dtype),
                causal=causal,
                heads=2 + 2 * (i % 2),
                kv_heads=1 + i % 2,
                layout=LAYOUTS[i % len(LAYOUTS)],
                blocks=(32, 32),
                seed=i,
            )
    return cases
