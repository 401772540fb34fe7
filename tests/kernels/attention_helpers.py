"""What the tests of attention share: inputs, and kernels and fp64 reference side by side."""

from types import ModuleType
from typing import Any

import torch

import kernels
from kernels import reference
from kernels.flash_attention import arguments
from kernels.verification.attention import AttentionCase, check_attention

Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]  # name -> what the kernels give, what is exact


def assert_passes(case: AttentionCase) -> None:
    """Within the bounds, no stray access, no race, and not one byte more than tiling needs."""
    outcome = check_attention(case)
    assert outcome.ratio <= 1, (case, outcome.ratio)
    assert outcome.report.ok, case
    assert outcome.bytes_moved == outcome.bytes_needed, case


def draw(
    m: int = 20,
    n: int = 24,
    d: int = 16,
    *,
    heads: int = 2,
    kv_heads: int | None = None,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    grad: bool = False,
    seed: int = 0,
) -> list[torch.Tensor]:
    """q, k and v."""
    generator = torch.Generator().manual_seed(seed)
    kv_heads = kv_heads or heads
    shapes = [(batch, heads, m, d), (batch, kv_heads, n, d), (batch, kv_heads, n, d)]
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    return [t.requires_grad_(grad) for t in tensors]


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def both(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    dout: torch.Tensor | None = None,
    dlse: torch.Tensor | None = None,
    **options: Any,
) -> Pairs:
    """Output and LSE of the kernels and of the fp64 reference, and, where there is a gradient to
    start from, those of everything that asks for one."""
    named = {"q": q, "k": k, "v": v, **options}
    mine = kernels.attention(**named, return_lse=True)
    doubles = {name: _double(value) for name, value in named.items()}
    theirs = reference.attention(**doubles)
    pairs = dict(zip(("out", "lse"), zip(mine, theirs, strict=True), strict=True))
    learnt = [n for n, t in named.items() if isinstance(t, torch.Tensor) and t.requires_grad]
    if dout is not None or dlse is not None:
        found = _gradients(mine, [named[n] for n in learnt], dout, dlse)
        exact = _gradients(theirs, [doubles[n] for n in learnt], dout, dlse)
        pairs |= {
            f"d{n}": pair for n, pair in zip(learnt, zip(found, exact, strict=True), strict=True)
        }
    return pairs


def _double(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().double().requires_grad_(value.requires_grad)
    return value


def _gradients(
    results: tuple[torch.Tensor, torch.Tensor],
    inputs: list[torch.Tensor],
    *upstream: torch.Tensor | None,
) -> tuple[torch.Tensor, ...]:
    """Of the sum of results · upstream; a result that is not finite has no part in it."""
    loss = torch.zeros(())
    for result, gradient in zip(results, upstream, strict=True):
        if gradient is not None:
            loss = loss + (result.masked_fill(~result.isfinite(), 0.0) * gradient).sum()
    return torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)


def assert_close(pairs: Pairs, tolerance: float = 1e-5) -> None:
    """Off by at most ``tolerance`` times the largest number of the exact result, or of 1."""
    for name, (found, exact) in pairs.items():
        assert found.shape == exact.shape, name
        finite = exact.isfinite()
        assert torch.equal(found.isfinite(), finite), name
        assert torch.equal(found[~finite].double(), exact[~finite].double()), name
        size = max(1.0, float(exact[finite].abs().max())) if finite.any() else 1.0
        error = (found - exact)[finite].abs().max() if finite.any() else torch.zeros(())
        assert error <= tolerance * size, (name, float(error), size)


def looks_once_at_each_version(checks: ModuleType = arguments) -> bool:
    """Whether a tensor's values are looked at once, and once more after a change: on a GPU each
    look waits for the device."""
    seen: list[float] = []

    def look(tensor: torch.Tensor) -> str:
        seen.append(float(tensor))
        return ""

    tensor = torch.tensor(0.0)
    for value in (1.0, 2.0):
        tensor.fill_(value)
        for _ in range(2):
            checks.once(("tensor",), tensor, look)
    return seen == [1.0, 2.0]


def numbers_stay_finite_in_base_2(checks: ModuleType = arguments) -> bool:
    """Whether a scale or soft-cap is refused when log2(e) times it is infinite in fp32."""
    largest = torch.finfo(torch.float32).max

    def accepted(scale: float, softcap: float | None) -> bool:
        try:
            checks.check_numbers(scale, None, softcap, 0.0)
        except ValueError:
            return False
        return True

    refused = not accepted(-largest / 1.4, None) and not accepted(1.0, largest / 1.4)
    return refused and accepted(-largest / 2, largest / 2)
