"""Attention as an operator of PyTorch: opcheck, compile, export, tensors without numbers."""

from typing import Any

import pytest
import torch
from attention_helpers import draw, normal
from torch._subclasses.fake_tensor import FakeTensorMode

import kernels
from kernels.flash_attention import operators
from kernels.flash_attention.call import Problem

CU = torch.tensor([0, 5, 10], dtype=torch.int32)
PROBLEMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal window": {"left": 4, "right": 0, "softcap": 2.0},
    "bias": {"bias": normal(1, 1, 1, 10)},
    "transposed bias": {"bias": normal(1, 4, 10, 10).mT},
    "half-precision bias": {"bias": normal(1, 4, 10, 10).half()},
    "slopes and sinks": {"slopes": torch.rand(4), "sinks": normal(4)},
    "every second sink": {"sinks": normal(8)[::2]},
    "dropout": {"dropout_p": 0.2, "seed": torch.tensor([3])},
    "key mask": {"key_mask": normal(1, 10) > 0},
    "packed": {"cu_seqlens_q": CU, "cu_seqlens_k": CU},
}


def arguments(name: str) -> tuple[list[torch.Tensor], tuple[Any, ...]]:
    q, k, v = draw(10, 10, 8, heads=4, kv_heads=2)
    return [q.transpose(1, 2).contiguous().transpose(1, 2), k, v], operators.flatten(
        Problem(scale=0.3, **PROBLEMS[name])
    )


@pytest.mark.parametrize("name", PROBLEMS)
def test_opcheck_forward(name: str) -> None:
    """Schema, shapes and strides without numbers, and gradients under compilation."""
    qkv, fields = arguments(name)
    learnt = [PROBLEMS[name].get(option) for option in ("bias", "sinks")]
    fields = tuple(
        t.detach().requires_grad_() if any(t is x for x in learnt if x is not None) else t
        for t in fields
    )
    qkv = [t.detach().requires_grad_() for t in qkv]
    torch.library.opcheck(operators.attention_forward, (*qkv, *fields))


@pytest.mark.parametrize(
    ("name", "bias_gradient"),
    [
        ("plain", True),
        ("bias", False),
        ("transposed bias", True),
        ("half-precision bias", True),
        ("packed", True),
    ],
)
def test_opcheck_backward(name: str, bias_gradient: bool) -> None:
    qkv, fields = arguments(name)
    out, lse = operators.attention_forward(*qkv, *fields)
    dlse = None if name == "plain" else normal(*lse.shape)
    given = (normal(*out.shape), dlse, *qkv, out, lse, *fields, bias_gradient)
    torch.library.opcheck(operators.attention_backward, given)


def test_compiled_without_a_break() -> None:
    """Forward and backward in one graph, the same bits as without compilation."""

    def loss(q: Any, k: Any, v: Any, bias: Any, sinks: Any, slopes: Any) -> torch.Tensor:
        out, lse = kernels.attention(
            *(q, k, v), bias=bias, sinks=sinks, alibi_slopes=slopes, causal=True, dropout_p=0.2,
            seed=3, return_lse=True,
        )  # fmt: skip
        return (out * out).sum() + lse.sum()

    learnt = [*draw(9, 12, 8), normal(1, 2, 12, 9).mT, normal(2)]
    learnt = [t.requires_grad_() for t in learnt]
    slopes = torch.tensor([0.5, 0.25])
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected = torch.autograd.grad(loss(*learnt, slopes), learnt)
    found = torch.autograd.grad(compiled(*learnt, slopes), learnt)
    assert all(map(torch.equal, found, expected))


def test_compiled_packed_sequences_and_drawn_seeds() -> None:
    def attend(q: Any, k: Any, v: Any, cu: Any) -> Any:
        return kernels.attention(
            q, k, v, causal=True, cu_seqlens_q=cu, cu_seqlens_k=cu, dropout_p=0.3
        )

    compiled = torch.compile(attend, backend="aot_eager", fullgraph=True, dynamic=True)
    for t in (10, 14):
        cu = torch.tensor([0, 4, t], dtype=torch.int32)
        results = []
        for function in (attend, compiled):
            torch.manual_seed(0)
            results.append(function(*draw(t, t, 8), cu))
        assert torch.equal(*results)


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = torch.nn.Linear(16, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        return kernels.attention(q, k, v, causal=True, window=5).transpose(1, 2).flatten(2)


def test_exported_for_any_length() -> None:
    layer = Layer()
    length = torch.export.Dim("length", min=2, max=1000)
    program = torch.export.export(layer, (normal(2, 9, 16),), dynamic_shapes=({1: length},))
    targets = [node.target for node in program.graph.nodes]
    assert torch.ops.kernels.attention.default in targets
    longer = normal(2, 20, 16)
    assert torch.equal(program.module()(longer), layer(longer))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_shapes_without_numbers(dtype: torch.dtype) -> None:
    with FakeTensorMode():
        q = torch.empty(2, 7, 4, 16, dtype=dtype).transpose(1, 2).requires_grad_()
        k, v = (torch.empty(2, 2, 9, 16, dtype=dtype, requires_grad=True) for _ in range(2))
        bias = torch.empty(1, 4, 7, 9, requires_grad=True)
        slopes = torch.empty(4)
        out, lse = kernels.attention(q, k, v, bias=bias, alibi_slopes=slopes, return_lse=True)
        assert (out.shape, out.dtype, out.stride()) == (q.shape, dtype, q.stride())
        assert (lse.shape, lse.dtype) == ((2, 4, 7), torch.float32)
        gradients = torch.autograd.grad(out.sum() + lse.sum(), (q, k, v, bias))
        for tensor, gradient in zip((q, k, v, bias), gradients, strict=True):
            assert (gradient.shape, gradient.dtype) == (tensor.shape, tensor.dtype)
