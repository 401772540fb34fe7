"""LayerNorm and RMSNorm with another epsilon, gain, bias, mean or variance."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from minift.compare.hypotheses.evidence import Evidence, Guess

EPSILONS = (0.0, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)


def guesses(evidence: Evidence) -> Iterator[Guess]:
    """Every variant on their input with their weights."""
    x, weight = evidence.input(), evidence.right("weight")
    if evidence.place.key[1] != "output" or x is None or weight is None or weight.dim() != 1:
        return
    bias, module = evidence.right("bias"), evidence.alignment.pairs[evidence.place.key[0]].theirs
    eps = epsilon_of(module)
    form = _form(evidence, x, weight, bias, eps)
    if form is None:
        return
    centred, gain = form
    here = epsilon_of(evidence.alignment.pairs[evidence.place.key[0]].ours)
    for other in (*EPSILONS, here):
        text = f"about {other:g} here, {eps:g} in theirs"
        yield Guess("norm epsilon", text, norm(x, weight + gain, bias, other, centred))
    kind = {True: "LayerNorm takes the mean off", False: "RMSNorm does not take the mean off"}
    text = f"{kind[not centred]}, {kind[centred]}, as theirs"
    yield Guess("norm formula", text, norm(x, weight + gain, bias, eps, not centred))
    text = f"theirs multiplies by {'1 + w' if gain else 'w'}, ours by {'w' if gain else '1 + w'}"
    yield Guess("norm gain", text, norm(x, weight + 1 - gain, bias, eps, centred))
    ones = torch.ones_like(weight)
    yield Guess("norm gain", "the gain is not applied", norm(x, ones, bias, eps, centred))
    if bias is not None:
        yield Guess("missing bias", "the norm's bias is not added",
                    norm(x, weight + gain, None, eps, centred))  # fmt: skip
    text = "the variance is divided by n − 1, theirs by n"
    yield Guess("norm variance", text, norm(x, weight + gain, bias, eps, centred, unbiased=True))
    yield Guess("norm skipped", "what goes in comes out", x)
    half = norm(x.bfloat16(), (weight + gain).bfloat16(), _half(bias), eps, centred).to(x.dtype)
    yield Guess("dtype", "computed in bfloat16", half)
    own, own_bias = evidence.own("weight"), evidence.own("bias")
    if own is not None:
        text = "theirs with our weights gives our numbers: other weights were loaded"
        yield Guess("weights differ", text, norm(x, own + gain, own_bias, eps, centred))


def norm(
    x: Tensor, gain: Tensor, bias: Tensor | None, eps: float, centred: bool, unbiased: bool = False
) -> Tensor:
    """LayerNorm, or without ``centred`` RMSNorm, over the last dimension."""
    if centred:
        x = x - x.mean(-1, keepdim=True)
    n = x.shape[-1]
    variance = x.pow(2).sum(-1, keepdim=True) / (n - 1 if unbiased else n)
    y = x * torch.rsqrt(variance + eps) * gain
    return y if bias is None else y + bias


def epsilon_of(module: nn.Module) -> float:
    """The ε that a norm has, by either of its usual names; 0 where it has none."""
    for name in ("eps", "variance_epsilon"):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    return 0.0


def _form(
    evidence: Evidence, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float
) -> tuple[bool, float] | None:
    """Which norm theirs is: whether it takes the mean off, and what it adds to the gain."""
    real, theirs = evidence.batch.real, evidence.step.value
    for centred in (True, False):
        for gain in (0.0, 1.0):
            value = norm(x, weight + gain, bias, eps, centred)
            if float((real(value) - real(theirs)).abs().max()) <= 2 * evidence.tolerance:
                return centred, gain
    return None


def _half(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.bfloat16()
