"""Two models' records side by side: the first module that differs, and why."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from minift.compare.hypotheses import causes_of
from minift.compare.hypotheses.evidence import Cause, Evidence, Place
from minift.compare.pairs import Alignment, align, check_same_kind, common_parent
from minift.compare.quantities import (
    Report,
    floor_of,
    gradient_scale,
    largest,
    precision,
    report,
    tolerance,
)
from minift.compare.record import Key, Step, Trace, like, recording, same
from minift.compare.running import batch_for, evaluating, run, run_theirs
from minift.compare.table import LIMIT, layer_of, layer_table, module_table


@dataclass(frozen=True)
class Site:
    """What goes into a module or comes out of it, ours against theirs.

    ``forward`` and ``backward`` are differences in units of the noise floor; up to 4 is equal.
    ``None``: nothing to compare there.
    """

    name: str
    side: str
    turn: int
    forward: float | None
    backward: float | None
    difference: float
    """Of the values: max|ours − theirs|."""
    floor: float
    """One unit of ``forward``."""

    @property
    def ok(self) -> bool:
        """Whether both directions are within the limit."""
        return all(x is None or x <= LIMIT for x in (self.forward, self.backward))


@dataclass(frozen=True)
class Diagnosis:
    """Where two models part. ``sites`` are in the order of computation."""

    report: Report
    sites: list[Site] = field(default_factory=list)
    place: Place | None = None
    causes: list[Cause] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No site and no quantity is out of tolerance."""
        return self.place is None and self.report.ok

    @property
    def first(self) -> str | None:
        """The first module that differs; ``None`` when the models are equal."""
        return None if self.place is None else self.place.module

    def layers(self) -> dict[str, tuple[float, float]]:
        """The largest forward and backward difference in each layer, in noise floors."""
        found: dict[str, tuple[float, float]] = {}
        for site in self.sites:
            before = found.setdefault(layer_of(site.name), (0.0, 0.0))
            now = (site.forward or 0.0, site.backward or 0.0)
            found[layer_of(site.name)] = (max(before[0], now[0]), max(before[1], now[1]))
        return found

    def table(self, modules: bool = False) -> str:
        """Differences in noise floors, by layer or by module, and the verdict."""
        lines = module_table(self.sites) if modules else layer_table(self.layers())
        return "\n".join([*lines, self.verdict()])

    def verdict(self) -> str:
        """One line when all is well; else where and why."""
        if self.ok:
            return "ok: every difference is within its tolerance"
        if self.place is None:
            return (
                f"NOT equal: the first quantity out of tolerance is {self.report.first_difference}"
            )
        lines = [f"NOT equal: the first module that differs is {self.place}"]
        for cause in self.causes:
            how = "reproduces it" if cause.reproduced else "possible"
            lines.append(f"  {cause.name} ({how}): {cause.text}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; a number that is not finite becomes ``None``."""
        sites = [
            {
                "module": s.name, "side": s.side, "call": s.turn, "ok": s.ok,
                "forward": _finite(s.forward), "backward": _finite(s.backward),
            }
            for s in self.sites
        ]  # fmt: skip
        causes = [
            {"cause": c.name, "text": c.text, "reproduced": c.reproduced} for c in self.causes
        ]
        found = {"first_module": self.first, "causes": causes, "modules": sites}
        return {**self.report.to_dict(), "ok": self.ok, **found}


def diagnose(
    ours: nn.Module,
    theirs: Any,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    decoder_input_ids: Tensor | None = None,
    gradients: bool = True,
) -> Diagnosis:
    """Find the first module in which two models differ, and test what may be the cause.

    The arguments are those of ``compare``. Each module's inputs and outputs are recorded on both
    sides; hypotheses about the mistake (another scale, no mask, another norm epsilon, …) are tried
    on *their* recorded inputs, and those that give *our* numbers are named first.
    """
    check_same_kind(ours, theirs)
    alignment = align(ours, theirs)
    batch = batch_for(ours, theirs, input_ids, attention_mask, labels, decoder_input_ids)
    mine = Trace()
    others = [Trace(), Trace()]
    free = iter(others)
    with evaluating(ours), evaluating(theirs):
        with _recording(alignment, ours, mine, False):
            my_run = run(ours, batch, gradients)

        def around(model: Any) -> AbstractContextManager[None]:
            return _recording(alignment, model, next(free), True)

        their_runs = run_theirs(theirs, batch, gradients, around)
    table = report(alignment, my_run, *their_runs)
    gradients_of = my_run.get("gradients", {}), their_runs[0].get("gradients", {})
    for trace, results in zip([mine, *others], [my_run, *their_runs], strict=True):
        _add_results(trace, results)
    sites, places = _sites(mine, others[0], others[1], batch.real, gradient_scale(their_runs[0]))
    place = _forward_place(sites, others[0], alignment) or _backward_place(sites, table, alignment)
    if place is None:
        return Diagnosis(table, sites)
    again = Trace()
    with evaluating(ours), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        with _recording(alignment, ours, again, False):
            _add_results(again, run(ours, batch, False))
    evidence = Evidence(place, alignment, batch, mine, others[0], again, places, gradients_of)
    return Diagnosis(table, sites, place, causes_of(evidence))


def _recording(
    alignment: Alignment, model: nn.Module, trace: Trace, is_theirs: bool
) -> AbstractContextManager[None]:
    def of(pairs: dict[str, Any]) -> dict[str, nn.Module]:
        names = {name: pair.theirs_name if is_theirs else name for name, pair in pairs.items()}
        return {name: model.get_submodule(path) for name, path in names.items()}

    return recording(of(alignment.pairs), of(alignment.layers), trace)


def _add_results(trace: Trace, results: dict[str, dict[str, Tensor]]) -> None:
    """The model's own results as the last steps."""
    for name in ("logits", "loss"):
        if name in results:
            trace.steps.append(Step(name, "output", 0, results[name][""]))


def _sites(
    mine: Trace, sdpa: Trace, eager: Trace, real: Callable[[Tensor], Tensor], scale: float
) -> tuple[list[Site], dict[Key, float]]:
    """Every step that both have, in their order; and the tolerance at each."""
    ours, second = mine.by_key(), eager.by_key()
    sites, tolerances = [], {}
    for step in sdpa.steps:
        if step.key not in ours:
            continue
        one, other = ours[step.key], second.get(step.key, step)
        forward, unit, difference = _units(one.value, step.value, other.value, real, 1.0)
        backward = None
        if one.gradient is not None and step.gradient is not None:
            other_gradient = step.gradient if other.gradient is None else other.gradient
            backward = _units(one.gradient, step.gradient, other_gradient, real, scale)[0]
        elif step.gradient is not None and largest(real(step.gradient)) > 0 and _any(mine):
            backward = math.inf  # theirs has a gradient there, ours has none
        sites.append(Site(*step.key, forward, backward, difference, unit))
        tolerances[step.key] = LIMIT * unit
    return _without_conventions(sites, sdpa), tolerances


def _without_conventions(sites: list[Site], theirs: Trace) -> list[Site]:
    """Without sites where only the line between two modules is drawn elsewhere.

    What theirs hands on unchanged to a module where ours has the same numbers is no difference:
    Hugging Face's Gemma, say, scales in its embedding, ours behind it.
    """
    steps = theirs.by_key()
    inputs = [s for s in sites if s.side == "input" and s.forward is not None]
    equal = [steps[s.name, s.side, s.turn] for s in inputs if (s.forward or 0.0) <= LIMIT]
    kept = []
    for site in sites:
        value = steps[site.name, site.side, site.turn].value
        is_output = site.side == "output" and (site.forward or 0.0) > LIMIT
        if is_output and any(same(step.value, value) for step in equal):
            site = replace(site, forward=None, backward=None)
        kept.append(site)
    return kept


def _any(trace: Trace) -> bool:
    return any(step.gradient is not None for step in trace.steps)


def _units(
    ours: Tensor, theirs: Tensor, eager: Tensor, real: Callable[[Tensor], Tensor], scale: float
) -> tuple[float | None, float, float]:
    """The difference in noise floors, one noise floor, and the difference."""
    mine, right, other = real(like(ours, theirs)), real(theirs), real(like(eager, theirs))
    if mine.shape != right.shape:
        if mine.numel() != right.numel():
            return None, 0.0, 0.0
        mine = mine.reshape(right.shape)
    floor = floor_of(right, other) if right.shape == other.shape else 0.0
    rule = {"factor": LIMIT, "scale": scale}
    unit = tolerance(floor, largest(right), precision(right), **rule) / LIMIT
    difference = largest(mine.double() - right.double())
    if math.isnan(difference):
        return math.inf, unit, difference
    if unit == 0.0:
        return (0.0 if difference == 0.0 else math.inf), unit, difference
    return difference / unit, unit, difference


def _forward_place(sites: list[Site], theirs: Trace, alignment: Alignment) -> Place | None:
    """The first site whose values differ."""
    position = {step.key: i for i, step in enumerate(theirs.steps)}
    for site in sites:
        if site.forward is not None and site.forward > LIMIT:
            key = (site.name, site.side, site.turn)
            step = theirs.steps[position[key]]
            before = _step_before(theirs.steps, position[key])
            if step.attention is not None:  # it belongs to the module that holds the product
                return Place(site.name.rpartition(".")[0], key, before, "forward")
            return _place(key, before, "forward", alignment)
    return None


def _step_before(steps: list[Step], index: int) -> str | None:
    """The last module that was finished before this step."""
    done = (s.name for s in reversed(steps[:index]) if s.side == "output")
    return next(done, None)


def _place(key: Key, before: str | None, direction: str, alignment: Alignment) -> Place:
    name, side, _ = key
    if side == "output" or before is None or name in ("logits", "loss"):
        return Place(name, key, before, direction)
    parent = common_parent(before, name)
    if parent and isinstance(alignment.model.get_submodule(parent), nn.ModuleList):
        parent = layer_of(name)  # the list of layers computes nothing
    return Place(parent or "the model", key, before, direction)


def _backward_place(sites: list[Site], table: Report, alignment: Alignment) -> Place | None:
    """The first difference of gradients, from the loss backwards."""
    after: Site | None = None
    for site in _outputs(reversed(sites)):
        if site.backward is not None and site.backward > LIMIT:
            name = site.name if after is None else common_parent(site.name, after.name)
            key = (site.name, site.side, site.turn)
            return Place(name or "the model", key, after.name if after else None, "backward")
        after = site if site.backward is not None else after
    row = next((row for row in table.rows if row.name == "gradients" and not row.ok), None)
    if row is None:
        return None
    names = {other: name for name, other in alignment.names.items()}
    module, _, leaf = names.get(row.tensor, row.tensor).rpartition(".")
    return Place(module, (module, leaf, 0), None, "backward")


def _outputs(sites: Iterator[Site]) -> Iterator[Site]:
    return (site for site in sites if site.side == "output" and site.name not in ("logits", "loss"))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
