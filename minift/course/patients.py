"""The patients of the clinic: small models of ours with one mistake each.

Who wants to find the mistakes should not read on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minift.errors import one_of

BERT = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 32,
}  # fmt: skip
GPT2 = {
    "vocab_size": 60, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 32,
    "bos_token_id": 1, "eos_token_id": 1,
}  # fmt: skip
LLAMA = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64,
    "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "BertModel": BERT,
    "GPT2LMHeadModel": GPT2,
    "LlamaForCausalLM": LLAMA,
}


@dataclass(frozen=True)
class Patient:
    """A model of ours with a mistake, its healthy counterpart, and a batch for both."""

    ours: Any
    theirs: Any
    """Of ``transformers``, with the weights that ours should have."""
    ids: Tensor
    mask: Tensor


def admit(name: str) -> Patient:
    """The patient ``name``, one of ``PATIENTS``, as ill as on the first day.

    Raises:
        InputError: there is nobody of that name.
    """
    if name not in PATIENTS:
        raise one_of("patient", name, list(PATIENTS))
    kind, break_ = PATIENTS[name]
    theirs = reference(kind)
    import minift

    ours = minift.from_hf(theirs)
    break_(ours)
    ids, mask = batch()
    return Patient(ours, theirs, ids, mask)


def reference(kind: str) -> Any:
    """A small model of ``transformers``, in which every weight matters."""
    import transformers

    cls = getattr(transformers, kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cls(cls.config_class(**CONFIGS[kind])).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                is_gain = parameter.dim() == 1 and name.endswith("weight")
                parameter.normal_(1.0 if is_gain else 0.0, 0.25)
    return model


def batch() -> tuple[Tensor, Tensor]:
    """Three texts of different lengths, padded on the right: ids and mask, ``(3, 14)``."""
    ids = torch.randint(0, 60, (3, 14), generator=torch.Generator().manual_seed(0))
    return ids, (torch.arange(14)[None] < torch.tensor([14, 5, 9])[:, None]).long()


def _instead(module: nn.Module, forward: Callable[..., Any]) -> None:
    """Give one module another ``forward``."""
    module.forward = forward


@torch.no_grad()
def _anna(model: Any) -> None:
    weight = model.layers[1].attention.output.weight
    weight.copy_(weight.T.clone())


def _bruno(model: Any) -> None:
    model.layers[0].feed_forward.act = F.relu


def _clara(model: Any) -> None:
    model.transformer.layers[2].attention.scale = 1.0 / 8


def _david(model: Any) -> None:
    layer = model.transformer.layers[1]

    def forward(x: Tensor, *rest: Any) -> tuple[Tensor, None]:
        normed = layer.norm_1(x)
        x = layer.attention(normed, *rest)[0] + normed
        return x + layer.feed_forward(layer.norm_2(x)), None

    _instead(layer, forward)


@torch.no_grad()
def _emma(model: Any) -> None:
    weight = model.model.layers[0].attention.k.weight
    heads = weight.view(2, 2, 4, 32)  # (H_kv, halves, D/2, C)
    weight.copy_(heads.transpose(1, 2).reshape(weight.shape))


def _felix(model: Any) -> None:
    norm = model.model.layers[2].norm_2
    _instead(norm, lambda x: F.layer_norm(x, x.shape[-1:], norm.weight, None, norm.eps))


def _greta(model: Any) -> None:
    embeddings = model.embeddings

    def forward(ids: Tensor, types: Tensor | None) -> Tensor:
        places = torch.arange(ids.shape[1])[None] + 1
        types = torch.zeros_like(ids) if types is None else types
        x = embeddings.word(ids) + embeddings.token_type(types) + embeddings.position(places)
        return embeddings.dropout(embeddings.norm(x))

    _instead(embeddings, forward)


def _hugo(model: Any) -> None:
    layer = model.transformer.layers[1]

    def forward(x: Tensor, *rest: Any) -> tuple[Tensor, None]:
        x = layer.attention(layer.norm_1(x), *rest)[0] + x
        return x + layer.feed_forward(layer.norm_2(x).detach()), None

    _instead(layer, forward)


PATIENTS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "anna": ("BertModel", _anna),
    "bruno": ("BertModel", _bruno),
    "clara": ("GPT2LMHeadModel", _clara),
    "david": ("GPT2LMHeadModel", _david),
    "emma": ("LlamaForCausalLM", _emma),
    "felix": ("LlamaForCausalLM", _felix),
    "greta": ("BertModel", _greta),
    "hugo": ("GPT2LMHeadModel", _hugo),
}
