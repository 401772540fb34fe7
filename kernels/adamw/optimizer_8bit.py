"""``kernels.AdamW8bit``: AdamW with both moments in 8 bits."""

from collections.abc import Iterable
from typing import Any

import torch

from kernels.adamw.optimizer import AdamW
from kernels.adamw.state import moments_in_fp32


class AdamW8bit(AdamW):
    """AdamW with both moments in 8 bits: 2 bytes of state a parameter instead of 8.

    As :class:`AdamW`, and a step moves 16.06 bytes an fp32 parameter instead of 28. Every block of
    ``block_size`` values in memory shares an fp32 scale, and a value has a dynamic 8-bit code
    (:mod:`kernels.adamw.eight_bit`). A step computes in fp32 and rounds the moments once.

    An inf among the gradients makes the scale of its block infinite, and the step after that makes
    NaN of all ``block_size`` parameters in it; with fp32 moments only one is lost. With
    ``skip_nonfinite``, or under a ``GradScaler``, such a step is left out.

    ``state_dict`` holds codes and scales; ``load_state_dict`` also takes that of ``AdamW`` or
    ``torch.optim.AdamW``, and :meth:`state_dict_fp32` is for the way back.

    Args:
        params, lr, ...: as for :class:`AdamW`, with all of its options.
        block_size: codes that share a scale, a power of two from 32 to 1024. The paper has 2048;
            its authors' library has come to 256, which costs 8/256 of a byte more a parameter.
        min_8bit_size: tensors with fewer elements (biases, norms) keep fp32 moments; 4096 is that
            library's choice. Give 0 for 8 bits everywhere.

    Raises:
        ValueError, TypeError: as :class:`AdamW`; a ``block_size`` or ``min_8bit_size`` out of
            range.

    Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization" (arXiv 2110.02861).
    """

    block_size: int

    def __init__(
        self,
        params: Iterable[Any],
        *args: Any,
        block_size: int = 256,
        min_8bit_size: int = 4096,
        **options: Any,
    ) -> None:
        if block_size not in (32, 64, 128, 256, 512, 1024):
            raise ValueError(
                f"block_size must be a power of two from 32 to 1024, got {block_size!r}"
            )
        if not isinstance(min_8bit_size, int) or min_8bit_size < 0:
            raise ValueError(f"min_8bit_size must be a number of elements, got {min_8bit_size!r}")
        self.block_size, self.min_8bit_size = block_size, min_8bit_size
        super().__init__(params, *args, **options)

    def __getstate__(self) -> dict[str, Any]:
        own = ("block_size", "min_8bit_size")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self._adopt_group(self.param_groups[-1])

    def _codes_a_scale(self, param: torch.Tensor) -> int | None:
        return self.block_size if param.numel() >= max(self.min_8bit_size, 1) else None

    def _adopt_group(self, group: dict[str, Any]) -> None:
        group["block_size"] = self.block_size

    def state_dict_fp32(self) -> dict[str, Any]:
        """The state with fp32 moments, for ``AdamW`` or ``torch.optim.AdamW``."""
        saved = self.state_dict()
        state = {}
        for number, one in saved["state"].items():
            kept = {name: one[name] for name in ("step", "master") if name in one}
            state[number] = {**kept, **moments_in_fp32(one, self.block_size)}
        groups = [{k: v for k, v in g.items() if k != "block_size"} for g in saved["param_groups"]]
        return {"state": state, "param_groups": groups}
