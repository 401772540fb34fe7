"""Models from and to checkpoint folders and Hugging Face models in memory."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minift.errors import InputError, one_of
from minift.models import bert_heads, gemma, gpt2_heads, llama, mixtral, t5, vit
from minift.models.checkpoint import (
    config_source,
    dtype_name,
    filling,
    listed,
    read_config_file,
    read_json_object,
    read_tensors,
    write_checkpoint,
)
from minift.models.config import read_labels
from minift.models.family import Family
from minift.models.weights import from_theirs, to_theirs

FAMILIES: dict[str, Family] = {
    model_type: module.FAMILY
    for module in (
        bert_heads,
        gpt2_heads,
        llama,
        gemma,
        mixtral,
        t5,
        vit,
    )
    for model_type in module.FAMILY.all_types
}
ASSETS = ("minilm", "smollm2")
MAX_SHARD_BYTES = 5 * 10**9
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def load(
    name_or_path: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
    task: str | None = None,
    id2label: Mapping[int, str] | Iterable[str] | None = None,
) -> Any:
    """A model with its weights, in evaluation mode.

    Args:
        name_or_path: a folder with ``config.json`` and ``model.safetensors`` (or shards with
            their index), as ``save`` and ``transformers`` write it; a GGUF file, which is
            dequantised; or ``"minilm"``, ``"smollm2"``.
        dtype: of the parameters, whatever the file has.
        task: the class to load, by the names of its family's ``tasks``: ``"encoder"``,
            ``"token-classification"``, ``"causal-lm"``, …; ``None`` is the one that the checkpoint
            was saved from. A head that the checkpoint
            does not have is new: normal weights from PyTorch's global seed, the same numbers as
            ``from_pretrained(num_labels=…)`` draws.
        id2label: the class names of a classifier.

    Raises:
        InputError: no such folder, a config that is not supported, weights that are missing,
            superfluous, of another shape, unreadable or pickled, labels that contradict the
            checkpoint's head.
    """
    if dtype not in DTYPES:
        raise one_of("dtype", dtype_name(dtype), [dtype_name(known) for known in DTYPES])
    folder = checkpoint_folder(name_or_path)
    data = read_config_file(folder)
    with _naming(config_source(folder)):
        family, saved_as = _family(data), _architecture(data)
    if task is not None and task not in family.tasks:
        raise one_of("task", task, sorted(family.tasks))
    with _naming(config_source(folder)):
        cls = _class(family, saved_as, task)
        config = family.config.from_dict({**data, **_generation_ids(family, folder)})
    is_own = saved_as is not None and family.classes.get(saved_as) is cls
    config = _with_labels(config, id2label, cls, is_own)
    tensors = read_tensors(folder)
    _check_finite(tensors, folder)
    if family.from_disk is not None:
        with _naming(folder):
            tensors = family.from_disk(tensors, config)
    if family.settle is not None:
        config = family.settle(tensors, config)
    model = _empty(cls, config, dtype)
    new: list[str] = []
    if task is not None and not is_own:
        if saved_as is not None:
            tensors = _without_other_heads(family, model, tensors)
        held = {family.bare(name) for name in tensors}
        names = _head_names(family, model)
        new = [name for name in names if family.bare(family.theirs(name)) not in held]
    return from_theirs(family, model, tensors, str(folder), new=new).eval()


def _check_finite(tensors: Mapping[str, Tensor], folder: Path) -> None:
    bad = [name for name, t in tensors.items() if t.is_floating_point() and not _is_finite(t)]
    if bad:
        raise InputError(
            f"{folder}: {listed(bad)} holds numbers that are not finite; right: weights of a "
            "training run that did not diverge"
        )


def _is_finite(t: Tensor) -> bool:
    """Without a mask as large as the tensor: the extremes of numbers with a NaN are NaN."""
    t = t.float() if t.itemsize == 1 else t  # of eight bits PyTorch knows no extremes
    return t.numel() == 0 or all(bool(extreme.isfinite()) for extreme in t.aminmax())


def save(
    model: nn.Module, folder: str | os.PathLike[str], *, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write ``config.json`` and ``model.safetensors`` that ``transformers`` loads.

    The folder is made when it is not there; other files in it stay.

    Args:
        max_shard_bytes: weights of more bytes are written as several files and their index; a
            single tensor is never divided.

    Raises:
        InputError: not one of this project's models, or a place that cannot be written.
    """
    if max_shard_bytes < 1:
        raise InputError(f"max_shard_bytes: {max_shard_bytes}; right: at least 1")
    family = family_of(model)
    tensors = to_theirs(family, model)
    if family.to_disk is not None:
        tensors = family.to_disk(tensors, model.config)
    config = {
        "architectures": [hf_class(model)],
        "dtype": dtype_name(next(model.parameters()).dtype),
        **_config_dict(model),
    }
    with filling(folder) as place:
        write_checkpoint(place, config, tensors, max_shard_bytes)


def from_hf(hf_model: Any) -> Any:
    """Our model with a copy of the weights of a ``transformers`` model, in the same mode.

    Raises:
        InputError: a class or an option that is not supported.
    """
    data = hf_model.config.to_dict()
    family = _family(data)
    name = type(hf_model).__name__
    if name not in family.classes:
        raise one_of("hf_model", name, sorted(family.classes))
    config = family.config.from_dict(data)
    tensors = {key: value.detach().clone() for key, value in hf_model.state_dict().items()}
    if family.settle is not None:
        config = family.settle(tensors, config)
    model = _empty(family.classes[name], config, hf_model.dtype)
    return from_theirs(family, model, tensors, name).train(hf_model.training)


def to_hf(model: nn.Module) -> Any:
    """The ``transformers`` model with a copy of our weights, in the same mode.

    Raises:
        InputError: not one of this project's models.
    """
    import transformers

    family = family_of(model)
    config = transformers.AutoConfig.for_model(**_config_dict(model))
    with torch.random.fork_rng(devices=[]):  # its random start must not move the user's seed
        hf_model = getattr(transformers, hf_class(model))(config)
    tensors = to_theirs(family, model)
    hf_model.to(next(model.parameters()).dtype)
    for name in family.tied.keys() & tensors.keys():  # one of its own, though theirs is the same
        path, _, leaf = name.rpartition(".")
        setattr(hf_model.get_submodule(path), leaf, nn.Parameter(tensors[name].clone()))
    problems = hf_model.load_state_dict(tensors, strict=False)
    if problems.unexpected_keys or set(problems.missing_keys) - family.tied.keys():
        raise RuntimeError(f"weight names do not match transformers' {problems}")
    return hf_model.train(model.training)


def hf_class(model: nn.Module) -> str:
    """The name of the class of ``transformers`` that a model of ours is."""
    return str(getattr(model, "hf_class", type(model).__name__))


def hf_names(model: nn.Module) -> dict[str, str]:
    """Hugging Face's name of each of our parameters."""
    family = family_of(model)
    return {name: family.theirs(name) for name, _ in model.named_parameters()}


def to_hf_layout(model: nn.Module, name: str, value: Tensor) -> Tensor:
    """A tensor of the shape of parameter ``name`` (a gradient, say), laid out as theirs."""
    return value.T if family_of(model).is_transposed(name) else value


def _config_dict(model: nn.Module) -> dict[str, Any]:
    config: Any = model.config
    return dict(config.to_dict())


def checkpoint_folder(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a checkpoint: a path as it is, or an asset's, fetched if need be."""
    path = Path(name_or_path)
    if path.exists() or str(name_or_path) not in ASSETS:
        if not path.exists() and path.name == str(name_or_path) and path.suffix != ".gguf":
            error = str(one_of("model", str(path), ASSETS)).replace("unknown", "no folder")
            raise InputError(error.replace("; known", " and no model of that name; known"))
        return path
    from minift.assets import fetch

    return Path(fetch(str(name_or_path)))


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Begin the error messages of the block with the file that they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _generation_ids(family: Family, folder: Path) -> dict[str, Any]:
    """Special tokens that ``generation_config.json`` sets; they go before ``config.json``'s."""
    file = folder / "generation_config.json"
    if "causal-lm" not in family.tasks or not file.is_file():
        return {}
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {key: value for key, value in read_json_object(file).items() if key in names}


def _family(data: Mapping[str, Any]) -> Family:
    model_type = data.get("model_type")
    if model_type is None:
        raise InputError(f"model_type is missing; known: {', '.join(sorted(FAMILIES))}")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise one_of("model_type", model_type, sorted(FAMILIES))
    return FAMILIES[model_type]


def _architecture(data: Mapping[str, Any]) -> str | None:
    """The class that the checkpoint was saved from."""
    names = data.get("architectures") or [None]
    if not isinstance(names, list) or not isinstance(names[0], str | None):
        raise InputError(f"architectures={names!r}; right: a list with one class name")
    return names[0]


def family_of(model: nn.Module) -> Family:
    """The family of one of this project's models; InputError for any other module."""
    for family in FAMILIES.values():
        if type(model) in family.classes.values():
            return family
    known = sorted({c.__name__ for f in FAMILIES.values() for c in f.classes.values()})
    raise one_of("model", type(model).__name__, known)


def _class(family: Family, saved_as: str | None, task: str | None) -> type[nn.Module]:
    if task is not None:
        return family.tasks[task]
    if saved_as is None:
        return next(iter(family.classes.values()))
    if saved_as not in family.classes:
        error = one_of("architectures", saved_as, sorted(family.classes))
        raise InputError(f"{error}; or load only its body with task={next(iter(family.tasks))!r}")
    return family.classes[saved_as]


def _with_labels(config: Any, given: Any, cls: type[nn.Module], is_own: bool) -> Any:
    """The config with the user's class names, where they go with the checkpoint's head."""
    if not getattr(cls, "has_labels", False):
        if given is not None:
            raise InputError(f"id2label: {cls.__name__} has no classes; right: None, or a task")
        return config
    if given is None:
        if not is_own:
            raise InputError("id2label: None; right: the class names of the new head")
        return config
    labels = _labels(given)
    held = config.id2label or {0: "LABEL_0", 1: "LABEL_1"}
    unnamed = all(name == f"LABEL_{i}" for i, name in held.items())
    if is_own and labels != held and not (unnamed and len(labels) == len(held)):
        raise InputError(
            f"id2label: {len(labels)} names that are not those of the checkpoint's head "
            f"({listed(list(held.values()))}); right: the same ones in the same order, or None"
        )
    return dataclasses.replace(config, id2label=labels)


def _labels(given: Any) -> dict[int, str]:
    if not isinstance(given, Iterable) or isinstance(given, str):
        right = "the class names, a list or {0: name, 1: name, …}"
        raise InputError(f"id2label: {given!r}; right: {right}")
    names = given if isinstance(given, Mapping) else dict(enumerate(given))
    return read_labels({"id2label": names}) or {}


class _Unset(TorchFunctionMode):
    """Weights of a model without memory get no starting numbers.

    There is no place for them, and normal_ without memory makes PyTorch import its compiler: more
    than a second, and 140 MB.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in (Tensor.normal_, nn.init.normal_):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def _empty(cls: type[nn.Module], config: Any, dtype: torch.dtype) -> nn.Module:
    """The model without memory for its weights, and without touching the random state."""
    try:
        with torch.device("meta"), _Unset():
            return cls(config).to(dtype)
    except RuntimeError as error:
        raise InputError(f"config: sizes that no memory holds ({error})") from None


def _head_names(family: Family, model: nn.Module) -> list[str]:
    """Our names of what may be new: the head, and the body's optional parts below it."""
    if not hasattr(model, family.prefix):
        return []
    body, optional = f"{family.prefix}.", tuple(f"{part}." for part in family.optional)
    names = (name for name, _ in model.named_parameters())
    return [n for n in names if not n.startswith(body) or family.bare(n).startswith(optional)]


def _tied(family: Family, model: nn.Module) -> set[str]:
    """Hugging Face's names of the copies that this model's config ties."""
    return set(family.tied) if getattr(model.config, "tie_word_embeddings", False) else set()


def _without_other_heads(
    family: Family, model: nn.Module, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors but for those of another task's head; a lasting one stays if it is wanted."""
    own = {family.theirs(name) for name, _ in model.named_parameters()} | _tied(family, model)

    def stays(name: str) -> bool:
        return not family.is_head(name) or (family.is_lasting(name) and name in own)

    return {name: tensor for name, tensor in tensors.items() if stays(name)}
