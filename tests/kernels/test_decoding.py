"""kernels.decode_attention: every option against fp64, caches of both kinds, and refusals."""

import pytest
import torch

import kernels
import kernels.flash_attention.decode as decode_module
from kernels import reference
from kernels.lab import check
from kernels.verification.decoding import (
    DTYPES,
    OPTIONS,
    DecodeCase,
    cases,
    check_decode,
    compile_decode,
)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_option(dtype: str, option: str) -> None:
    """Measured, worst error as a share of its bound: fp32 0.18, fp16 0.27, bf16 0.26. The cache
    is read exactly once for each key head, and only where a query sees something."""
    assert check_decode(cases(DTYPES[dtype])[option]).passed


def tensors(
    m: int = 1, n: int = 40, d: int = 16, heads: int = 4, kv_heads: int = 2, batch: int = 2
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, heads, m, d), *2 * [(batch, kv_heads, n, d)]]
    q, k, v = (torch.randn(shape, generator=generator) for shape in shapes)
    return q, k, v


def test_equals_attention_over_a_full_cache() -> None:
    q, k, v = tensors(m=3)
    out, lse = kernels.decode_attention(q, k, v, window=30, return_lse=True)
    wanted, wanted_lse = kernels.attention(q, k, v, causal=True, window=30, return_lse=True)
    torch.testing.assert_close(out, wanted, atol=2e-6, rtol=0)
    torch.testing.assert_close(lse, wanted_lse, atol=2e-6, rtol=0)


def test_the_same_bits_twice_and_nearly_so_with_other_shares() -> None:
    q, k, v = tensors(n=300)
    results = [kernels.decode_attention(q, k, v, shares=shares) for shares in (3, 3, 1)]
    assert torch.equal(results[0], results[1])
    torch.testing.assert_close(results[0], results[2], atol=1e-6, rtol=0)


def test_the_layout_of_the_cache_changes_no_bit() -> None:
    q, k, v = tensors(n=32)
    table = torch.tensor([[3, 1], [0, 2]], dtype=torch.int32)
    pages = [torch.empty(4, 2, 16, 16) for _ in range(2)]
    for b in range(2):
        for p in range(2):
            for page, x in zip(pages, (k, v), strict=True):
                page[table[b, p]] = x[b, :, 16 * p : 16 * p + 16]
    wanted = kernels.decode_attention(q, k, v)
    assert torch.equal(kernels.decode_attention(q, *pages, block_table=table), wanted)
    by_token = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (k, v)]
    assert torch.equal(kernels.decode_attention(q, *by_token), wanted)


def test_generation_token_by_token_equals_one_causal_pass() -> None:
    """A cache that fills up, as generation uses it: the query of each step against its past."""
    q, k, v = tensors(m=12, n=12)
    whole = kernels.attention(q, k, v, causal=True)
    for t in range(12):
        lengths = torch.full((2,), t + 1, dtype=torch.int32)
        step = kernels.decode_attention(q[:, :, t : t + 1], k, v, lengths=lengths)
        torch.testing.assert_close(step[:, :, 0], whole[:, :, t], atol=2e-6, rtol=0)


def test_the_cache_is_read_once_whatever_the_number_of_query_heads() -> None:
    q, k, v = tensors(heads=8, kv_heads=1)
    with check() as report:
        kernels.decode_attention(q, k, v)
    assert report.traffic["k.ptr"].loaded == k.numel() * 4


def test_operator() -> None:
    q, k, v = tensors()
    lengths = torch.tensor([40, 7], dtype=torch.int32)
    operator = torch.ops.kernels.decode_attention.default
    given = (q, k, v, lengths, None, None, torch.zeros(4), 0.25, 2**30, 5.0, 2)
    torch.library.opcheck(operator, given)
    compiled = torch.compile(kernels.decode_attention, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(q, k, v, shares=2), kernels.decode_attention(q, k, v, shares=2))


def test_an_empty_batch_and_an_empty_cache() -> None:
    q, k, v = tensors()
    assert kernels.decode_attention(q[:0], k[:0], v[:0]).shape == (0, 4, 1, 16)
    out, lse = kernels.decode_attention(q, k[:, :, :0], v[:, :, :0], return_lse=True)
    assert out.eq(0).all() and lse.eq(-torch.inf).all()


TABLE = torch.zeros(2, 3, dtype=torch.int32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lengths": torch.tensor([1, 2])}, TypeError, "lengths: expected torch.int32"),
        ({"lengths": torch.ones(3, dtype=torch.int32)}, ValueError, "lengths: expected a dense"),
        ({"lengths": torch.tensor([1, 41]).int()}, ValueError, "lengths: expected 0 to 40, got 1"),
        ({"lengths": torch.tensor([-1, 4]).int()}, ValueError, "lengths: expected 0 to 40, got -1"),
        ({"block_table": TABLE.long()}, TypeError, "block_table: expected torch.int32"),
        ({"block_table": TABLE[0]}, ValueError, "block_table: expected a dense"),
        ({"block_table": TABLE + 2}, ValueError, "block_table: expected pages 0 to 1"),
        ({"shares": 0}, ValueError, "shares: expected 1 to 128, got 0"),
        ({"window": 0}, ValueError, "window: expected 1 or more"),
        ({"softcap": -1.0}, ValueError, "softcap: expected a positive"),
        ({"alibi_slopes": torch.tensor([1.0])}, ValueError, "alibi_slopes: expected shape"),
        ({"sinks": torch.zeros(4, dtype=torch.int64)}, TypeError, "sinks: expected floating"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "",
)
def test_bad_options(
    change: dict, error: type, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_module, "launch", None)  # nothing may be launched
    with pytest.raises(error, match=message) as caught:
        kernels.decode_attention(*tensors(), **change)
    assert "\n" not in str(caught.value)


def test_bad_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "launch", None)
    q, k, v = tensors()
    with pytest.raises(ValueError, match="q: at most 128 queries for each key head"):
        kernels.decode_attention(*tensors(m=65))
    with pytest.raises(ValueError, match="no gradient"):
        kernels.decode_attention(q.requires_grad_(), k, v)
    with pytest.raises(ValueError, match="v: expected the shape of k"):
        kernels.decode_attention(q.detach(), k, v[:, :, 1:])
    with pytest.raises(TypeError, match="all float32, all float16"):
        kernels.decode_attention(q.detach(), k.half(), v)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("page", [None, 16])
def test_machine_code(arch: str, page: int | None) -> None:
    compiled = compile_decode(torch.float16, 128, arch, page=page)
    assert compiled.spills_in_loop == 0 and compiled.instruction_mix["mma"]
    bulk = [op for op in compiled.opcodes("global") if op.startswith(("LDG", "UTMALDG"))]
    assert any(".128" in op or "UTMA" in op for op in bulk)


def test_the_reference_of_one_query_is_the_formula() -> None:
    q, k, v = (t.double() for t in tensors(kv_heads=4))
    out, lse = reference.attention(q, k, v, causal=True)
    scores = q @ k.mT / 4
    torch.testing.assert_close(out, scores.softmax(-1) @ v)
    torch.testing.assert_close(lse, scores.logsumexp(-1))


def test_a_case_measures_something() -> None:
    """The check itself: a cache with other values does not pass."""
    good = DecodeCase()
    assert 0 < check_decode(good).ratio < 1


def test_columns_far_apart_in_memory() -> None:
    """Offsets within one tile that need 64 bits: the pages in between are never touched."""
    q, k, v = tensors(n=4, batch=1, heads=1, kv_heads=1, d=8)
    step = 2**31 // 7
    room = torch.empty(8 * step, dtype=torch.float16)
    far = room.as_strided((1, 1, 4, 8), (0, 0, 1, step)).copy_(k)
    found = kernels.decode_attention(q.half(), far, v.half())
    assert torch.equal(found, kernels.decode_attention(q.half(), k.half(), v.half()))
