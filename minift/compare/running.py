"""One batch through a model: every compared quantity, and gradients."""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from minift.compare.pairs import known_family
from minift.layers.attention import use_backend
from minift.layers.mask import padding_mask, position_ids

Named = dict[str, Tensor]
IMAGES = "pixel_values"


@dataclass(frozen=True)
class Batch:
    """What both models are given; ``real`` finds the tokens in their tensors."""

    inputs: Named
    only_theirs: dict[str, Any] = field(default_factory=dict)
    masks: tuple[Tensor, ...] = ()
    """``(B, T)`` each, True for tokens: of the text, and of the decoder's where there are two."""

    def real(self, value: Tensor) -> Tensor:
        """The rows of ``value`` that belong to tokens, without padding.

        ``(B, T, …)``, ``(1, T, …)`` and ``(B·T, …)`` become ``(tokens, …)``; anything else stays.
        """
        for mask in self.masks:
            shape = tuple(mask.shape)
            has_tokens = value.dim() > 2 or (value.dim() == 2 and not value.is_floating_point())
            if has_tokens and value.shape[1] == shape[1] and value.shape[0] in (1, shape[0]):
                return value.expand(shape[0], *value.shape[1:])[mask]
            if value.dim() == 2 and value.shape[0] == mask.numel():
                return value[mask.flatten()]
        return value


def batch_for(
    ours: nn.Module,
    theirs: Any,
    given: Tensor,
    attention_mask: Tensor | None,
    labels: Tensor | None,
    decoder_input_ids: Tensor | None,
) -> Batch:
    """The arguments of both models' forward pass."""
    if getattr(theirs, "main_input_name", "") == IMAGES:
        inputs = {IMAGES: given} | ({} if labels is None else {"labels": labels})
        return Batch(inputs)
    mask = torch.ones_like(given) if attention_mask is None else attention_mask
    inputs, masks = {"input_ids": given, "attention_mask": mask}, [mask != 0]
    if decoder_input_ids is not None:
        inputs["decoder_input_ids"] = decoder_input_ids
        masks.insert(0, torch.ones_like(decoder_input_ids, dtype=torch.bool))
    if labels is not None:
        inputs["labels"] = labels
    counted = _positions(theirs, mask) if "causal-lm" in known_family(ours).tasks else {}
    return Batch(inputs, counted, tuple(masks))


def _positions(theirs: Any, mask: Tensor) -> dict[str, Any]:
    """Hugging Face's decoders do not count from the first token; here they are told to.

    Their cache is off: with one, keys and values lie differently in memory, which costs a rounding.
    """
    if "position_ids" not in inspect.signature(theirs.forward).parameters:
        return {}  # one of ours
    length = mask.shape[1]
    positions = position_ids(padding_mask(mask), length, length)
    return {"position_ids": positions, "use_cache": False}


def run(
    model: Any, batch: Batch, gradients: bool, extra: dict[str, Any] | None = None
) -> dict[str, Named]:
    """Every compared quantity, in the order of computation, real tokens only."""
    with torch.set_grad_enabled(gradients):
        output = model(**batch.inputs, **(extra or {}), output_hidden_states=True)
    found = _quantities(output, batch.real)
    quantities = {name: {"": value.detach()} for name, value in found.items()}
    if gradients:
        scalar = found["loss"] if "loss" in found else _projection(list(found.values())[1:])
        quantities["gradients"] = _gradients(scalar, dict(model.named_parameters()))
    return quantities


def run_theirs(
    theirs: Any, batch: Batch, gradients: bool, around: Callable[[Any], Any]
) -> tuple[dict[str, Named], dict[str, Named]]:
    """Their quantities by SDPA and by the eager formula; ``around`` a model records its run.

    A model that has no SDPA (Gemma 2) runs eager, in its own precision and in fp64.
    """
    if not getattr(theirs, "_supports_sdpa", True):
        with implementation(theirs, "eager"), around(theirs):
            mine = run(theirs, batch, gradients, batch.only_theirs)
        exact = copy.deepcopy(theirs).double()
        with around(exact):
            return mine, run(exact, batch, gradients, batch.only_theirs)
    runs = []
    for name in ("sdpa", "eager"):
        with implementation(theirs, name), around(theirs):
            runs.append(run(theirs, batch, gradients, batch.only_theirs))
    return runs[0], runs[1]


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Dropout off inside the block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def implementation(model: Any, name: str) -> Iterator[None]:
    """One of the two attention implementations, of a ``transformers`` model or one of ours."""
    if not hasattr(model, "set_attn_implementation"):
        with use_backend("eager" if name == "eager" else "torch"):
            yield
        return
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _quantities(output: Any, real: Callable[[Tensor], Tensor]) -> Named:
    stacks = {"": output.hidden_states if hasattr(output, "hidden_states") else None}
    if getattr(output, "encoder_hidden_states", None) is not None:
        decoder = getattr(output, "decoder_hidden_states", None) or stacks[""]  # theirs, or ours
        stacks = {"encoder ": output.encoder_hidden_states, "decoder ": decoder}
    found = {}
    for prefix, states in stacks.items():
        for i, hidden in enumerate(states or ()):
            found[prefix + (f"layer {i}" if i else "embeddings")] = real(hidden)
    logits = getattr(output, "logits", None)
    logits = getattr(output, "prediction_logits", None) if logits is None else logits
    if logits is not None:
        found["logits"] = real(logits)
    elif getattr(output, "pooler_output", None) is not None:  # beside logits ours gives it, too
        found["pooled"] = output.pooler_output
    if getattr(output, "seq_relationship_logits", None) is not None:
        found["pair logits"] = output.seq_relationship_logits
    if getattr(output, "loss", None) is not None:
        found["loss"] = output.loss
    return found


def _projection(outputs: list[Tensor]) -> Tensor:
    """A scalar that depends on every output: the product with one fixed random direction."""
    flat = torch.cat([output.flatten() for output in outputs])
    direction = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    return (flat * direction.to(flat)).sum()


def _gradients(scalar: Tensor, parameters: Named) -> Named:
    """Of every parameter; the models' own ``.grad`` stay untouched."""
    values = torch.autograd.grad(scalar, list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, values, strict=True))


def recording_nothing(model: nn.Module) -> Any:
    """An ``around`` that leaves the model alone."""
    return torch.enable_grad() if torch.is_grad_enabled() else torch.no_grad()
