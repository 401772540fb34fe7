"""Attention as operators of PyTorch, so that autograd, compile and export see through it.

An operator takes tensors and plain numbers only, so a ``call.Problem`` travels as its fields.
``register_fake`` says what shapes come out without running anything, ``register_autograd`` which
operator is the derivative.
"""

from typing import Any

import torch
from torch import Tensor

from kernels.flash_attention import call

_FIELDS = (
    "Tensor? slopes, Tensor? bias, Tensor? sinks, Tensor? key_mask, Tensor? seed, "
    "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, float scale, int left, int right, "
    "float? softcap, float dropout_p"
)
_NAMES = [field.split()[1] for field in _FIELDS.split(", ")]


def flatten(problem: call.Problem) -> tuple[Any, ...]:
    """The problem's fields in the order of the operators."""
    return tuple(getattr(problem, name) for name in _NAMES)


def _problem(fields: tuple[Any, ...]) -> call.Problem:
    return call.Problem(**dict(zip(_NAMES, fields, strict=True)))


@torch.library.custom_op(
    "kernels::attention",
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, {_FIELDS}) -> (Tensor, Tensor)",
)
def attention_forward(q: Tensor, k: Tensor, v: Tensor, *fields: Any) -> tuple[Tensor, Tensor]:
    """Output and LSE in base 2."""
    return call.forward(q, k, v, _problem(fields))


@attention_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *fields: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op(
    "kernels::attention_backward",
    mutates_args=(),
    schema=(
        "(Tensor dout, Tensor? dlse, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
        f"{_FIELDS}, bool bias_gradient) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
def attention_backward(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    *fields: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v, bias and sinks; empty tensors for what was not given or asked for."""
    *rest, bias_gradient = fields
    problem = _problem(tuple(rest))
    dq, dk, dv, dbias, dsinks = call.backward(
        dout, dlse, q, k, v, out, lse, problem, bias_gradient=bias_gradient
    )
    return dq, dk, dv, _or_empty(dbias, q), _or_empty(dsinks, q)


def _or_empty(tensor: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0) if tensor is None else tensor


@attention_backward.register_fake
def _(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    *fields: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    *rest, bias_gradient = fields
    problem = _problem(tuple(rest))
    bias = problem.bias if bias_gradient else None
    dbias, dsinks = (None if t is None else t.new_empty(t.shape) for t in (bias, problem.sinks))
    dq, dk, dv = (torch.empty_like(t) for t in (q, k, v))
    return dq, dk, dv, _or_empty(dbias, q), _or_empty(dsinks, q)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    fields = inputs[3:]
    is_tensor = [isinstance(field, Tensor) for field in fields]
    ctx.plain = [None if t else field for t, field in zip(is_tensor, fields, strict=True)]
    ctx.is_tensor = is_tensor
    tensors = [field for t, field in zip(is_tensor, fields, strict=True) if t]
    ctx.save_for_backward(*inputs[:3], *output, *tensors)


def _gradients(ctx: Any, dout: Tensor | None, dlse: Tensor | None) -> tuple[Any, ...]:
    q, k, v, out, lse, *tensors = ctx.saved_tensors
    rest = iter(tensors)
    fields = [next(rest) if t else plain for t, plain in zip(ctx.is_tensor, ctx.plain, strict=True)]
    if dout is None:
        dout = torch.zeros_like(out)
    given = dict(zip(_NAMES, fields, strict=True))
    wanted = given["bias"] is not None and ctx.needs_input_grad[3 + _NAMES.index("bias")]
    dq, dk, dv, dbias, dsinks = attention_backward(dout, dlse, q, k, v, out, lse, *fields, wanted)
    found = {
        "bias": dbias if wanted else None,
        "sinks": dsinks if given["sinks"] is not None else None,
    }
    return dq, dk, dv, *(found.get(name) for name in _NAMES)


attention_forward.register_autograd(_gradients, setup_context=_save)


def _refuse(ctx: Any, *gradients: Any) -> None:
    raise RuntimeError("kernels.attention: second derivatives are not computed")


attention_backward.register_autograd(_refuse)
