"""What ``kernels.attention`` accepts, said before anything is launched."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LARGEST = torch.finfo(torch.float32).max / 2  # with log2(e) on top, still finite
LONGEST = 2**30 - 1  # positions are 32-bit numbers, and their differences too

_checked: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # tensor -> question -> version


def check_qkv(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """Types, devices and shapes of the three tensors that every call has."""
    check_tensors(q, k, v)
    if k.shape != v.shape:
        raise ValueError(f"v: expected the shape of k, {tuple(k.shape)}, got {tuple(v.shape)}")
    if (k.shape[0], k.shape[3]) != (q.shape[0], q.shape[3]):
        raise ValueError(
            f"k: expected batch {q.shape[0]} and head_dim {q.shape[3]} as in q, "
            f"got shape {tuple(k.shape)}"
        )
    if not q.shape[1] or not k.shape[1] or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"k: its number of heads must divide that of q, got {k.shape[1]} and {q.shape[1]}"
        )
    if not 8 <= q.shape[3] <= 256:
        raise ValueError(f"q: head_dim must be 8 to 256, got {q.shape[3]}")


def check_tensors(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """Each of them alone, and of one dtype and on one device with q."""
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        _check_tensor(name, tensor, q)


def _check_tensor(name: str, tensor: torch.Tensor, q: torch.Tensor) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if tensor.dtype != q.dtype or tensor.dtype not in DTYPES:
        raise TypeError(
            f"{name}: expected q, k, v all float32, all float16 or all bfloat16, "
            f"got {tensor.dtype}" + (f" beside {q.dtype} for q" if name != "q" else "")
        )
    if tensor.ndim != 4:
        raise ValueError(
            f"{name}: expected 4 dimensions (batch, heads, length, head_dim), "
            f"got shape {tuple(tensor.shape)}"
        )
    if tensor.device != q.device or tensor.device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"{name}: expected q, k, v on one CPU or CUDA device, "
            f"got {q.device} for q and {tensor.device} for {name}"
        )
    if tensor.shape[2] > LONGEST:
        raise ValueError(f"{name}: at most {LONGEST} positions, got {tensor.shape[2]}")


def check_numbers(
    scale: float | None, window: int | None, softcap: float | None, dropout_p: float
) -> None:
    """Plain numbers in their ranges."""
    for name, number in (("scale", scale), ("softcap", softcap), ("dropout_p", dropout_p)):
        optional = number is None and name != "dropout_p"
        if not optional and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise TypeError(f"{name}: expected a number, got {type(number).__name__}")
    if scale is not None and not abs(scale) <= LARGEST:
        raise ValueError(f"scale: expected a number that is finite in fp32, got {scale}")
    if window is not None and (isinstance(window, bool) or not isinstance(window, int)):
        raise TypeError(f"window: expected a whole number of keys, got {window!r}")
    if window is not None and window < 1:
        raise ValueError(f"window: expected 1 or more, got {window}")
    if softcap is not None and not 1e-30 <= softcap <= LARGEST:
        raise ValueError(f"softcap: expected a positive number, finite in fp32, got {softcap}")
    if not 0 <= dropout_p < 1:
        raise ValueError(f"dropout_p: expected 0 <= p < 1, got {dropout_p}")


def check_seed(seed: int | torch.Tensor | None, q: torch.Tensor) -> None:
    """A whole number, or one that lies on the device already."""
    if isinstance(seed, torch.Tensor):
        if seed.dtype != torch.int64 or seed.numel() != 1 or seed.device != q.device:
            raise ValueError(
                f"seed: expected an int or one int64 number on {q.device}, "
                f"got {seed.dtype} of shape {tuple(seed.shape)} on {seed.device}"
            )
    elif seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise TypeError(f"seed: expected an int or an int64 tensor, got {type(seed).__name__}")
    elif seed is not None and not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed: expected a number of 64 bits, got {seed}")


def check_floats(
    name: str, tensor: torch.Tensor, q: torch.Tensor, shapes: list[tuple[int, ...]], *, finite: bool
) -> None:
    """A floating-point tensor of one of the shapes on q's device; if asked, no NaN or infinity."""
    _on_device(name, tensor, q)
    if tensor.dtype not in (*DTYPES, torch.float64):
        raise TypeError(f"{name}: expected floating-point numbers, got {tensor.dtype}")
    if tuple(tensor.shape) not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ValueError(f"{name}: expected shape {wanted}, got {tuple(tensor.shape)}")
    if finite:
        once(
            (name,),
            tensor,
            lambda t: "" if t.isfinite().all() else "expected finite numbers, got NaN or infinity",
        )


def check_bias(bias: torch.Tensor, q: torch.Tensor, n: int) -> None:
    """Four dimensions, each of full size or 1."""
    _on_device("bias", bias, q)
    if bias.dtype not in DTYPES:
        raise TypeError(f"bias: expected float32, float16 or bfloat16, got {bias.dtype}")
    full = (*q.shape[:3], n)
    fits = bias.ndim == 4 and all(a in (1, b) for a, b in zip(bias.shape, full, strict=True))
    if not fits:
        raise ValueError(
            f"bias: expected a shape that broadcasts to {full}, 4 dimensions, "
            f"got {tuple(bias.shape)}"
        )


def check_key_mask(mask: torch.Tensor, k: torch.Tensor) -> None:
    """One boolean for each key of each sequence."""
    _on_device("key_mask", mask, k)
    if mask.dtype != torch.bool:
        raise TypeError(f"key_mask: expected torch.bool, True for a real key, got {mask.dtype}")
    if mask.shape != (k.shape[0], k.shape[2]):
        raise ValueError(
            f"key_mask: expected shape {(k.shape[0], k.shape[2])} (batch, keys), "
            f"got {tuple(mask.shape)}"
        )


def check_packed(
    cu_q: torch.Tensor | None, cu_k: torch.Tensor | None, q: torch.Tensor, k: torch.Tensor
) -> None:
    """Boundaries of packed sequences: both or none, rising from 0 to the whole length."""
    if cu_q is None and cu_k is None:
        return
    if cu_q is None or cu_k is None:
        missing = "cu_seqlens_q" if cu_q is None else "cu_seqlens_k"
        raise ValueError(f"{missing}: expected beside the other one of the pair, got None")
    for name, cu, x in (("cu_seqlens_q", cu_q, q), ("cu_seqlens_k", cu_k, k)):
        _on_device(name, cu, q)
        if cu.dtype != torch.int32:
            raise TypeError(f"{name}: expected torch.int32, got {cu.dtype}")
        if cu.ndim != 1 or cu.shape != cu_q.shape or cu.shape[0] < 2:
            raise ValueError(
                f"{name}: expected one dimension with the number of sequences plus 1 entries, the "
                f"same in both, got shapes {tuple(cu_q.shape)} and {tuple(cu_k.shape)}"
            )
        if q.shape[0] != 1:
            raise ValueError(f"{name}: packed sequences need batch size 1, got {q.shape[0]}")
        once((name, x.shape[2]), cu, _rises_to(x.shape[2]))


def _rises_to(length: int) -> Callable[[torch.Tensor], str]:
    def finding(cu: torch.Tensor) -> str:
        values = cu.tolist()
        rises = values == sorted(values) and values[0] == 0 and values[-1] == length
        return "" if rises else f"expected to rise from 0 to {length}, got {values[:8]}"

    return finding


def once(
    question: tuple[Any, ...], tensor: torch.Tensor, finding: Callable[[torch.Tensor], str]
) -> None:
    """Look at a tensor's values, and say what is wrong with them. On a GPU that waits for the
    device: the same question is asked once of a tensor that does not change, never while
    compiling. ``question`` begins with the argument's name."""
    if torch.compiler.is_compiling() or isinstance(tensor, torch._subclasses.FakeTensor):
        return
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    remembers = not tensor.is_inference()  # such a tensor does not count its changes
    answered = _checked.setdefault(tensor, {}) if remembers else {}
    if remembers and answered.get(question) == tensor._version:
        return
    if found := finding(tensor.detach()):
        raise ValueError(f"{question[0]}: {found}")
    if remembers:
        answered[question] = tensor._version


def _on_device(name: str, tensor: torch.Tensor, q: torch.Tensor) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if tensor.device != q.device:
        raise ValueError(f"{name}: expected a tensor on {q.device}, got one on {tensor.device}")
