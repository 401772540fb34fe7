"""Attention for generation: one or a few new queries against a cache, contiguous or paged."""

import torch

from kernels.flash_attention import arguments
from kernels.flash_attention.call import EVERYWHERE, LN_2, Problem
from kernels.flash_attention.decode import decode

MOST_ROWS = 128  # queries of one key head: heads that share it times queries of a sequence
MOST_SHARES = 128


def decode_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    lengths: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    alibi_slopes: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    shares: int | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Causal attention of the last M positions of each sequence over its cache; no gradient.

    Shapes: ``q: (B, H, M, D)``; a contiguous cache ``k, v: (B, H_kv, N, D)`` or a paged one,
    ``(pages, H_kv, PAGE, D)``, where key j of sequence b is row ``j % PAGE`` of page
    ``block_table[b, j // PAGE]``. (H / H_kv) · M <= 128. fp32, fp16 or bf16, any strides.

    Args:
        lengths: int32 ``(B,)``, the keys that each sequence has, its new ones included; None when
            the cache is full. Query m stands at position length − M + m.
        block_table: int32 ``(B, pages of a sequence)``. Entries behind a sequence's length are not
            read.
        scale, window, softcap, alibi_slopes, sinks, return_lse: as for ``kernels.attention``.
        shares: into how many parts the keys are split; None chooses enough to fill the device. The
            result depends on it in the last bits, and on nothing else.

    The values of ``lengths`` and ``block_table`` are checked on the CPU only: they change with each
    token, and looking at them on a GPU would wait for it. A length that is too large is cut.

    Returns: ``(B, H, M, D)`` in the dtype of ``q``; with ``return_lse`` also ``(B, H, M)`` fp32.

    Raises: as ``kernels.attention``; also ``ValueError`` when a gradient is asked for.

    Source: "Flash-Decoding for long-context inference" (Dao et al. 2023); vLLM (arXiv 2309.06180).
    Counterpart: ``flash_attn_with_kvcache``.
    """
    _check(q, k, v, lengths, block_table, shares)
    arguments.check_numbers(scale, window, softcap, 0.0)
    heads = (q.shape[1],)
    if alibi_slopes is not None:
        shapes = [heads, (q.shape[0], *heads)]
        arguments.check_floats("alibi_slopes", alibi_slopes, q, shapes, finite=True)
    if sinks is not None:
        arguments.check_floats("sinks", sinks, q, [heads], finite=False)
    learnt = [t for t in (q, k, v, sinks, alibi_slopes) if t is not None and t.requires_grad]
    if torch.is_grad_enabled() and learnt:
        raise ValueError(
            "q, k, v, sinks, alibi_slopes: decode_attention has no gradient; call it under "
            "torch.no_grad()"
        )
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    left = EVERYWHERE if window is None else min(window - 1, EVERYWHERE)
    slopes = None if alibi_slopes is None else alibi_slopes.float()
    out, lse = torch.ops.kernels.decode_attention(
        *(q, k, v, lengths, block_table, slopes, sinks),
        *(scale, left, softcap, shares or _enough_shares(q, k, block_table)),
    )
    return (out, lse * LN_2) if return_lse else out


def _enough_shares(q: torch.Tensor, k: torch.Tensor, table: torch.Tensor | None) -> int:
    """Two programs for each multiprocessor, but none with less than 256 keys."""
    processors = 1
    if q.is_cuda:
        processors = torch.cuda.get_device_properties(q.device).multi_processor_count
    capacity = k.shape[2] * (1 if table is None else table.shape[1])
    wanted = -(-2 * processors // max(1, q.shape[0] * k.shape[1]))
    return max(1, min(wanted, capacity // 256, MOST_SHARES))


def _check(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: torch.Tensor | None,
    table: torch.Tensor | None,
    shares: int | None,
) -> None:
    if table is None:
        arguments.check_qkv(q, k, v)
    else:  # a cache of pages has no batch: it is held against q by one page
        arguments.check_tensors(q, k, v)
        if not k.shape[2]:
            raise ValueError("k: expected pages of at least one row, got none")
        one = min(1, q.shape[0])
        arguments.check_qkv(q[:one], k[:one], v[:one])
        _check_integers("block_table", table, q, 2)
        if k.shape != v.shape:
            raise ValueError(f"v: expected the shape of k, {tuple(k.shape)}, got {tuple(v.shape)}")
    rows = q.shape[1] // k.shape[1] * q.shape[2]
    if rows > MOST_ROWS:
        raise ValueError(
            f"q: at most {MOST_ROWS} queries for each key head (heads that share it times length), "
            f"got {rows}; use kernels.attention"
        )
    if lengths is not None:
        _check_integers("lengths", lengths, q, 1)
    if shares is not None and (isinstance(shares, bool) or not isinstance(shares, int)):
        raise TypeError(f"shares: expected an int, got {type(shares).__name__}")
    if shares is not None and not 1 <= shares <= MOST_SHARES:
        raise ValueError(f"shares: expected 1 to {MOST_SHARES}, got {shares}")
    if q.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_values(k, lengths, table)


def _check_integers(name: str, tensor: torch.Tensor, q: torch.Tensor, ndim: int) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name}: expected an int32 tensor, got {type(tensor).__name__}")
    if tensor.dtype != torch.int32:
        raise TypeError(f"{name}: expected torch.int32, got {tensor.dtype}")
    if tensor.ndim != ndim or tensor.shape[0] != q.shape[0] or not tensor.is_contiguous():
        wanted = f"({q.shape[0]},)" if ndim == 1 else f"({q.shape[0]}, pages a sequence)"
        raise ValueError(f"{name}: expected a dense tensor {wanted}, got {tuple(tensor.shape)}")
    if tensor.device != q.device:
        raise ValueError(f"{name}: expected a tensor on {q.device}, got one on {tensor.device}")


def _check_values(
    k: torch.Tensor, lengths: torch.Tensor | None, table: torch.Tensor | None
) -> None:
    page = k.shape[2]
    capacity = page if table is None else page * table.shape[1]
    if lengths is not None and lengths.numel():
        low, high = int(lengths.min()), int(lengths.max())
        if low < 0 or high > capacity:
            raise ValueError(f"lengths: expected 0 to {capacity}, got {low} to {high}")
    if table is None:
        return
    keys = torch.full(table.shape[:1], capacity) if lengths is None else lengths
    used = torch.arange(table.shape[1]) < -(-keys[:, None] // page)
    if not ((table >= 0) & (table < k.shape[0]))[used].all():
        raise ValueError(
            f"block_table: expected pages 0 to {k.shape[0] - 1}, got {int(table[used].min())} to "
            f"{int(table[used].max())}"
        )


@torch.library.custom_op(
    "kernels::decode_attention",
    mutates_args=(),
    schema=(
        "(Tensor q, Tensor k, Tensor v, Tensor? lengths, Tensor? block_table, Tensor? slopes, "
        "Tensor? sinks, float scale, int left, float? softcap, int shares) -> (Tensor, Tensor)"
    ),
)
def _operator(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: torch.Tensor | None,
    block_table: torch.Tensor | None,
    slopes: torch.Tensor | None,
    sinks: torch.Tensor | None,
    scale: float,
    left: int,
    softcap: float | None,
    shares: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    problem = Problem(scale, left, 0, softcap=softcap, slopes=slopes, sinks=sinks)
    return decode(q, k, v, lengths, block_table, problem, shares)


@_operator.register_fake
def _(q: torch.Tensor, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.empty(q.shape, dtype=q.dtype, device=q.device),
        q.new_empty(q.shape[:3], dtype=torch.float32),
    )
