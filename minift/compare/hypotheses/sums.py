"""Residuals, biases and factors: a difference that is a multiple of something nearby."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from minift.compare.hypotheses.evidence import Evidence, Guess
from minift.compare.record import Step, same


def guesses(evidence: Evidence) -> Iterator[Guess]:
    """Theirs plus c times one tensor of before, or one of them in place of another."""
    theirs = evidence.step.value
    if not theirs.is_floating_point() or theirs.dim() < 2:
        return
    steps = _terms(evidence)
    for step in steps:
        factor = _factor(evidence, step.value)
        if factor is not None and not same(step.value, theirs):
            yield _named(evidence, step, factor)
    factor = _factor(evidence, theirs)
    if factor is not None:
        text = f"ours is {_number(1 + factor)} times theirs"
        yield Guess("factor", text, theirs + factor * theirs)
    yield from _by_token(evidence)
    yield from _norm_applied(evidence)
    yield from _norm_passed_over(evidence, steps)
    yield from _exchanged(evidence, steps)


def _by_token(evidence: Evidence) -> Iterator[Guess]:
    """Theirs with a factor for each token, such as shares of experts that do not add up to 1."""
    ours, theirs = evidence.ours_here, evidence.step.value
    if ours.shape == theirs.shape:
        factors = (ours * theirs).sum(-1, keepdim=True) / theirs.pow(2).sum(-1, keepdim=True)
        if float(factors.std()) > 1e-3 * float(factors.abs().mean()):  # else it is one factor
            text = "each token has a factor of its own: shares or a norm over something else"
            yield Guess("factor for each token", text, factors * theirs)


def alone(evidence: Evidence) -> Iterator[Guess]:
    """One tensor of before, and nothing else."""
    for step in _terms(evidence):
        text = f"ours is the {step.side} of {step.name} alone; the rest is not added"
        yield Guess("missing term", text, step.value)


def _terms(evidence: Evidence) -> list[Step]:
    """Tensors of before that could be added at the place."""
    theirs = evidence.step.value
    if not theirs.is_floating_point() or theirs.dim() < 2:
        return []
    steps = [s for s in evidence.earlier() if s.value.is_floating_point()]
    return [s for s in steps if _broadcasts(s.value, theirs)]


def _norm_passed_over(evidence: Evidence, steps: list[Step]) -> Iterator[Guess]:
    for step in steps:
        made_by = _maker(evidence, evidence.step.value)
        if made_by is not None and step.side == "input" and step.name == made_by:
            text = f"{made_by} is passed over here: ours has what theirs gives to it"
            yield Guess("pre-norm or post-norm", text, step.value)


def _named(evidence: Evidence, step: Step, factor: float) -> Guess:
    theirs, value = evidence.step.value, step.value
    guess = theirs + factor * value
    what = f"the {step.side} of {step.name}"
    if abs(factor - 1) < 0.01:
        return Guess("term added twice", f"{what} is added once more", guess)
    if abs(factor + 1) > 0.01:
        return Guess("scaled term", f"{what} counts {_number(1 + factor)} times", guess)
    if _flows_on(evidence, value):
        return Guess("residual missing", f"{what} is not added", guess)
    return Guess("missing term", f"{what} is not added", guess)


def _exchanged(evidence: Evidence, steps: list[Step]) -> Iterator[Guess]:
    """One tensor is added where theirs adds another."""
    theirs, ours = evidence.step.value, evidence.ours_here
    if ours.shape != theirs.shape:
        return
    for put in steps:
        for right in steps:
            value = theirs + put.value - right.value
            if put is right or put.value.shape != right.value.shape or value.shape != theirs.shape:
                continue
            name = "residual from the wrong place"
            made_by = {_maker(evidence, put.value): right, _maker(evidence, right.value): put}
            for norm, other in made_by.items():
                if norm is not None and other.name == norm and other.side == "input":
                    name = "pre-norm or post-norm"
            text = f"the {put.side} of {put.name} is added, not the {right.side} of {right.name}"
            yield Guess(name, text, value)


def _norm_applied(evidence: Evidence) -> Iterator[Guess]:
    """A norm of this layer, applied too early."""
    theirs = evidence.step.value
    place = evidence.place
    for pair in evidence.alignment.pairs.values():
        weight = getattr(pair.theirs, "weight", None)
        if not isinstance(weight, Tensor) or weight.dim() != 1 or theirs.dim() < 2:
            continue
        if weight.shape[0] == theirs.shape[-1] and _is_near(pair.name, place.key[0]):
            with torch.no_grad():
                value = pair.theirs(theirs)
            text = f"{pair.name} is applied here already, theirs applies it elsewhere"
            yield Guess("pre-norm or post-norm", text, value)


def _is_near(name: str, other: str) -> bool:
    return name.rsplit(".", 1)[0].startswith(".".join(other.split(".")[:3])) or (
        ".".join(name.split(".")[:3]) == ".".join(other.split(".")[:3])
    )


def _factor(evidence: Evidence, value: Tensor) -> float | None:
    """c of the best fit ours − theirs ≈ c · value."""
    ours, theirs = (evidence.batch.real(x) for x in (evidence.ours_here, evidence.step.value))
    term = evidence.batch.real(value)
    if ours.shape != theirs.shape or (term.shape != theirs.shape and term.shape[0] != 1):
        return None
    difference = (ours.double() - theirs.double()).flatten()
    term = term.double().expand_as(theirs).flatten()
    power = float(term @ term)
    return float(difference @ term) / power if power else None


def _maker(evidence: Evidence, value: Tensor) -> str | None:
    """The norm whose output this is."""
    for step in evidence.theirs.steps[: evidence.index]:
        if (
            step.side == "output"
            and step.value.shape == value.shape
            and step.name in (evidence.alignment.pairs)
        ):
            module = evidence.alignment.pairs[step.name].theirs
            weight = getattr(module, "weight", None)
            is_norm = isinstance(weight, Tensor) and weight.dim() == 1
            if is_norm and torch.equal(step.value, value):
                return step.name
    return None


def _flows_on(evidence: Evidence, value: Tensor) -> bool:
    """Whether a tensor is what some module is given: the stream, not a branch."""
    pairs = evidence.alignment.pairs
    return any(
        step.side == "input"
        and same(step.value, value)
        and not isinstance(pairs[step.name].theirs, nn.Embedding)
        for step in evidence.theirs.steps[: evidence.index]
        if step.name in pairs
    )


def _broadcasts(value: Tensor, theirs: Tensor) -> bool:
    return value.dim() == theirs.dim() and all(
        a in (1, b) for a, b in zip(value.shape, theirs.shape, strict=True)
    )


def _number(value: float) -> str:
    return f"{value:.4g}"
