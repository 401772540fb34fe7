"""The parity table: how far we are from ``transformers``, in units of its own rounding.

For each family and quantity: the largest difference between ours and theirs (with SDPA), over
several models and paddings; the same between their two implementations of attention, eager and
SDPA, on the same inputs; and the ratio. Gemma 2 has no SDPA: there, both "ours" and "theirs" are
eager, and the unit is their eager in fp32 against fp64 (with their norms, which stay in fp32).
Mixtral's experts have two implementations as well, and the unit is between both pairs at once. A
unit is never smaller than one rounding of the largest value.
"""

from dataclasses import dataclass

import torch
from tiny_decoders import DECODERS, hf_decoder
from tiny_hf import positions, ragged

import minift
from minift.layers.attention import use_backend
from minift.models.loading import hf_names, to_hf_layout

EPSILON = torch.finfo(torch.float32).eps
QUANTITIES = ("logits", "loss", "gradients", "trajectory")
DECODER_FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma2", "Gemma3", "Mixtral")


@dataclass
class Measured:
    """Largest absolute differences of one quantity."""

    ours: float = 0.0
    floor: float = 0.0

    @property
    def ratio(self) -> float:
        return self.ours / self.floor if self.ours else 0.0


def measure_decoders(family):
    """``{quantity: Measured}`` over all cases of a family and both sides of padding."""
    found = {quantity: Measured() for quantity in QUANTITIES}
    for name in (name for name in DECODERS if DECODERS[name][0] == family):
        # in fp64, which Gemma 2 is measured by, their eager gives NaN with padding on the left
        for side in ("right",) if family == "Gemma2" else ("left", "right"):
            theirs, other = _pair(name)
            ours = minift.from_hf(theirs)
            wanted = _results(theirs, side, is_ours=False)
            with use_backend("eager" if family == "Gemma2" else "torch"):
                mine = _results(ours, side, is_ours=True)
            noise = _results(other, side, is_ours=False)
            for quantity in QUANTITIES:
                measured = found[quantity]
                measured.ours = max(measured.ours, _apart(mine[quantity], wanted[quantity]))
                rounding = EPSILON * float(wanted[quantity].abs().max())
                noise_here = _apart(noise[quantity], wanted[quantity])
                measured.floor = max(measured.floor, noise_here, rounding)
    return found


def table(rows):
    """Text of ``{family: {quantity: Measured}}``."""
    lines = [f"{'family':<10}" + "".join(f"{quantity:^28}" for quantity in QUANTITIES)]
    lines.append(" " * 10 + f"{'ours':>10}{'floor':>10}{'ratio':>7} " * len(QUANTITIES))
    for family, found in rows.items():
        cells = (found[quantity] for quantity in QUANTITIES)
        text = "".join(f"{c.ours:>10.1e}{c.floor:>10.1e}{c.ratio:>7.2f} " for c in cells)
        lines.append(f"{family:<10}{text}")
    return "\n".join(lines)


def _pair(name):
    """A model, and the one that it is compared with for the noise floor."""
    if DECODERS[name][0] == "Gemma2":
        return hf_decoder(name, impl="eager"), hf_decoder(name, impl="eager").double()
    slow = {"experts_implementation": "eager"} if DECODERS[name][0] == "Mixtral" else {}
    return hf_decoder(name, impl="sdpa"), hf_decoder(name, impl="eager", **slow)


def _results(model, side, *, is_ours):
    """Logits, loss and gradients on a padded batch, then the weights after ten steps of AdamW."""
    ids, mask = ragged([9, 4, 23], side)
    # padding sees nothing that means something, so nothing is asked of the last of it
    after_padding = torch.nn.functional.pad(mask, (1, 0))[:, :-1] == 0
    labels = ids.masked_fill((mask == 0) | after_padding, -100)
    given = {} if is_ours else {"position_ids": positions(mask), "use_cache": False}
    output = model(ids, attention_mask=mask, labels=labels, **given)
    output.loss.backward()
    results = {"logits": output.logits[mask != 0].detach(), "loss": output.loss.detach()}
    results["gradients"] = _named(model, is_ours, lambda p: p.grad)
    # eps: a gradient that is 0 but for rounding (a key's bias) would be divided by itself
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4, weight_decay=0.1)
    for step in range(10):
        ids = ragged([11, 11, 11], seed=step)[0]
        optimizer.zero_grad()
        model(ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
    results["trajectory"] = _named(model, is_ours, torch.Tensor.detach)
    return results


def _named(model, is_ours, take):
    """One flat tensor of something of every parameter, in the order of their names."""
    names = hf_names(model) if is_ours else {n: n for n, _ in model.named_parameters()}
    values = {
        names[n]: (to_hf_layout(model, n, take(p)) if is_ours else take(p)).flatten()
        for n, p in model.named_parameters()
    }
    return torch.cat([values[name] for name in sorted(values)])


def _apart(x, y):
    return float((x - y).abs().max())
