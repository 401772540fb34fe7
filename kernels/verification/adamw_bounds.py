"""How far rounding can take a step of AdamW from PyTorch's."""

from typing import Any

import torch

from kernels.verification.outcome import worst

# Whether PyTorch's vector code for this processor has a fused multiply-add, as the kernel has.
FUSES = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # weights, exp_avg, exp_avg_sq


def adamw_error(
    mine: Any, theirs: Triple, old: Triple, grad: torch.Tensor, options: dict[str, Any]
) -> float:
    """The largest difference after one fp32 step from the same state, as a share of its bound."""
    pairs = zip(mine, theirs, bounds_of(old, theirs, grad, options), strict=True)
    return max(worst((a.double() - b.double()).abs(), bound) for a, b, bound in pairs)


def bounds_of(
    old: Triple, new: Triple, grad: torch.Tensor, options: dict[str, Any]
) -> list[torch.Tensor]:
    """How far a step from ``old`` may be from PyTorch's ``new``, for weights and moments.

    For the moments the bound is one ulp of the larger of the two terms that are added up: m and
    (1−β₁)(g−m), β₂v and (1−β₂)g² (where both fuse, they agree in every bit). For p it is one ulp
    of p and six of its change: PyTorch takes square roots from a vector library that rounds one in
    five the other way, and two divisions pass that on (measured: up to five ulp of a change that
    is as large as p).
    """
    (p, m, v), (beta1, beta2) = old, options["betas"]
    kept = p * (1 - options["lr"] * options["weight_decay"])
    return [
        ulp(torch.maximum(p.abs(), new[0].abs())) + 6 * ulp((new[0] - kept).abs()),
        ulp(torch.maximum(m.abs(), (1 - beta1) * (grad - m).abs())),
        ulp(torch.maximum(beta2 * v, (1 - beta2) * grad * grad)),
    ]


def ulp(x: torch.Tensor, bits: int = 0) -> torch.Tensor:
    """The distance from each fp32 number to the next larger one with ``bits`` fewer bits."""
    x = x.abs()
    return (torch.nextafter(x, torch.tensor(torch.inf)) - x).double() * 2.0**bits
