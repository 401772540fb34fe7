"""The parity table's rows for encoder-decoders: T5 and the transformer of 2017.

T5 is measured as the decoders are. PyTorch's own ``nn.Transformer``, the reference of the other,
has one implementation of attention; there, the unit is its fp32 against its fp64.
"""

import torch
from parity import EPSILON, QUANTITIES, Measured, _apart, _named
from tiny_hf import ragged
from tiny_t5 import hf_t5
from tiny_t5 import pair as source_and_labels
from torch_transformer import pair as ours_and_torch

import minift
from minift.layers.attention import use_backend

T5_NAMES = ("plain", "deeper-decoder", "version-1.1", "gated-silu-few-buckets")
NAMES_OF_2017 = ("plain", "odd-sizes", "gelu-final-norm")


def measure_t5():
    """``{quantity: Measured}`` over several configurations and both sides of padding."""
    found = {quantity: Measured() for quantity in QUANTITIES}
    for name in T5_NAMES:
        own_head = name == "version-1.1"
        for side in ("left", "right"):
            theirs, other = (hf_t5(name, impl=i, own_head=own_head) for i in ("sdpa", "eager"))
            ours = minift.from_hf(theirs)
            with use_backend("torch"):
                mine = _t5_results(ours, side, is_ours=True)
            wanted, noise = (_t5_results(m, side, is_ours=False) for m in (theirs, other))
            _add(found, mine, wanted, noise)
    return found


def measure_2017():
    """The same for ``Transformer`` against ``torch.nn.Transformer``."""
    found = {quantity: Measured() for quantity in QUANTITIES}
    for name in NAMES_OF_2017:
        for side in ("left", "right"):
            ours, theirs = ours_and_torch(name)
            exact = ours_and_torch(name)[1].double()
            mine = _2017_results(ours, side, is_ours=True)
            wanted, noise = (_2017_results(m, side, is_ours=False) for m in (theirs, exact))
            _add(found, mine, wanted, noise)
    return found


def _add(found, mine, wanted, noise):
    for quantity in QUANTITIES:
        measured, right = found[quantity], wanted[quantity]
        measured.ours = max(measured.ours, _apart(mine[quantity], right))
        rounding = EPSILON * float(right.abs().max())
        measured.floor = max(measured.floor, _apart(noise[quantity], right), rounding)


def _t5_results(model, side, *, is_ours):
    """Logits, loss and gradients on a padded batch, then the weights after ten steps of AdamW."""

    def output(seed):
        ids, mask, labels = source_and_labels(side=side, seed=seed)
        given = {} if is_ours else {"use_cache": False}
        return model(input_ids=ids, attention_mask=mask, labels=labels, **given)

    first = output(50)
    first.loss.backward()
    results = {"logits": first.logits.detach(), "loss": first.loss.detach()}
    results["gradients"] = _named(model, is_ours, lambda p: p.grad)
    _train(model, lambda step: output(step).loss)
    results["trajectory"] = _named(model, is_ours, torch.Tensor.detach)
    return results


def _2017_results(model, side, *, is_ours):
    """The same. Targets are padded on the right, where the labels are −100."""

    def output(seed):
        ids, mask = ragged([7, 12, 3], side, seed=seed)
        target, real = ragged([6, 2, 9], seed=100 + seed)
        labels = target.roll(-1, 1).masked_fill((real == 0) | (target % 7 == 0), -100)
        if not is_ours:
            return real, *model.logits_and_loss(ids, mask, target, real, labels)
        options = {"decoder_input_ids": target, "decoder_attention_mask": real}
        mine = model(ids, mask, labels, **options)
        return real, mine.logits, mine.loss

    real, logits, loss = output(50)
    loss.backward()
    results = {"logits": logits[real != 0].detach(), "loss": loss.detach()}
    results["gradients"] = _flat(model, is_ours, lambda p: p.grad)
    _train(model, lambda step: output(step)[2])
    results["trajectory"] = _flat(model, is_ours, torch.Tensor.detach)
    return results


def _train(model, loss_of):
    # eps: a gradient that is 0 but for rounding (a key's bias) would be divided by itself
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4, weight_decay=0.1)
    for step in range(10):
        optimizer.zero_grad()
        loss_of(step).backward()
        optimizer.step()


def _flat(model, is_ours, take):
    """One tensor of something of every parameter, in the order of our names."""
    ours = {n: take(p) for n, p in model.named_parameters()} if is_ours else model.named(take)
    return torch.cat([ours[name].flatten() for name in sorted(ours)])
