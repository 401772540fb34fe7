"""From tensors to launches: the table of addresses, the pieces, and what goes to the device."""

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
import triton

from kernels.adamw import kernel, norm
from kernels.adamw.constants import HYPERPARAMETERS, _prepare
from kernels.adamw.eight_bit import code_values
from kernels.launch import launch

BLOCK = 1024  # parameters a program: two 128-bit loads a thread from each fp32 tensor

Array = np.ndarray[Any, Any]


class Row(NamedTuple):
    """One tensor's part in a step. All tensors have the parameter's shape and strides.

    ``param`` and ``grad`` are fp32, or bf16/fp16 with an fp32 ``master``; bf16 without one is
    rounded stochastically. The moments are fp32, or uint8 codes with fp32 ``scale``s.
    """

    param: torch.Tensor
    grad: torch.Tensor
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor
    constants: tuple[float, ...] = ()  # of step_constants, when the host knows the step
    master: torch.Tensor | None = None
    exp_avg_scale: torch.Tensor | None = None
    exp_avg_sq_scale: torch.Tensor | None = None
    step: torch.Tensor | None = None  # fp32, one element
    factor: float = 1.0  # on the gradient
    steps: int = 0  # this one included, when the host knows it
    seed: int = 0
    number: int = 0  # of the parameter in the optimiser

    @property
    def kind(self) -> int:
        """How weights and moments are stored, as the kernel numbers it."""
        weight = kernel.FP32
        if self.param.dtype == torch.float16:
            weight = kernel.FP16_MASTER
        elif self.param.dtype == torch.bfloat16:
            weight = kernel.BF16_STOCHASTIC if self.master is None else kernel.BF16_MASTER
        eight_bit = self.exp_avg.dtype == torch.uint8
        return int(weight.value) + int(kernel.EIGHT_BIT.value) * eight_bit


TENSORS = (
    "param",
    "grad",
    "exp_avg",
    "exp_avg_sq",
    "master",
    "exp_avg_scale",
    "exp_avg_sq_scale",
    "step",
)  # in the order of the table's columns
FIELDS = TENSORS[:7]  # what a step moves


class Uploads:
    """Small tables on their way to a device; what has not changed is not sent again."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, torch.device], tuple[Array, torch.Tensor]] = {}
        self._captured: list[torch.Tensor] = []

    def __call__(self, name: str, values: Array, device: torch.device) -> torch.Tensor:
        if device.type == "cpu":
            return torch.from_numpy(values)
        before, there = self._last.get((name, device), (None, None))
        capturing = torch.cuda.is_current_stream_capturing()
        if there is not None and before is not None and np.array_equal(before, values):
            if capturing:  # a graph will read it again, whatever the next step uploads
                self._captured.append(there)
            return there
        pinned = torch.from_numpy(values).pin_memory()  # so that the copy waits for nothing
        there = pinned.to(device, non_blocking=True)
        if capturing:
            self._captured += [pinned, there]
        self._last[name, device] = values, there
        return there


def update(rows: list[Row], *, block: int = BLOCK) -> None:
    """Update every row in one launch. All rows on one device; empty tensors are left out."""
    rows = [row for row in rows if row.param.numel()]
    if rows:
        Batch(rows, block=block).step()


@dataclass
class Batch:
    """The rows of one device and their tables, for the launches of one step."""

    rows: list[Row]
    uploads: Uploads = field(default_factory=Uploads)
    block: int = BLOCK
    quant: int = 256  # 8-bit codes that share a scale

    def __post_init__(self) -> None:
        self.device = self.rows[0].param.device
        self.kinds = sorted({row.kind for row in self.rows})
        self.table = self._upload("table", table(self.rows))
        counts = pieces([row.param.numel() for row in self.rows], self.block)
        self.count = len(counts)
        self.pieces = self._upload("pieces", counts)

    def _upload(self, name: str, values: Array) -> torch.Tensor:
        return self.uploads(name, values, self.device)

    def _launch(self, function: Any, grid: int, *args: Any, **constexprs: Any) -> None:
        memory = self._memory() if self.device.type == "cpu" else None
        launch(function, (grid,), *args, memory=memory, **constexprs)

    def _memory(self) -> dict[str, list[torch.Tensor]]:
        """The tensors behind the addresses, for the interpreter."""
        return {
            name: [t for row in self.rows if (t := getattr(row, name)) is not None]
            for name in TENSORS
        }

    @property
    def _kinds(self) -> int:
        return sum(1 << kind for kind in self.kinds)

    def step(self) -> None:
        """One step of rows that bring their constants along."""
        self.update(self.host_constants())

    def host_constants(self) -> torch.Tensor:
        """The constants of rows whose step the host knows."""
        rows = [[*row.constants, row.factor, float(row.steps)] for row in self.rows]
        return self._upload("constants", np.array(rows, np.float32))

    def partial_norms(self) -> torch.Tensor:
        """(parts, 2): sums of squares of the gradients; numbers of inf and NaN. One launch."""
        grid = min(self.count, norm.PARTS)
        partials = torch.empty((grid, 2), dtype=torch.float64, device=self.device)
        if grid:
            self._launch(
                norm._partial_norms,
                grid,
                self.table,
                self.pieces,
                partials,
                self.count,
                KINDS=self._kinds,
                BLOCK=self.block,
                num_warps=4,
            )
        return partials

    def device_constants(
        self,
        groups: list[dict[str, Any]],
        *,
        partials: torch.Tensor | None = None,
        max_norm: float | None = None,
        grad_scale: torch.Tensor | None = None,
        found_inf: torch.Tensor | None = None,
        norm: torch.Tensor | None = None,
        skip: torch.Tensor | None = None,
        skipped: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Count the step and make its constants on the device. ``groups``: one for each row."""
        hyper = self._upload("hyper", np.array([_hyper(group) for group in groups], np.float64))
        first = 0
        for _, same in groupby(groups, key=id):  # rows come group by group
            group, *rest = same
            last = first + 1 + len(rest)
            if isinstance(group["lr"], torch.Tensor):
                hyper[first:last, 0].copy_(group["lr"].reshape(()))
            first = last
        constants = torch.empty((len(self.rows), kernel.CONSTANTS.value), device=self.device)
        self._launch(
            _prepare,
            len(self.rows),
            self.table,
            hyper,
            constants,
            partials,
            None if partials is None else len(partials),
            max_norm,
            grad_scale,
            found_inf,
            norm,
            skip,
            skipped,
            BLOCK=128,
            num_warps=4,
        )
        return constants

    def update(self, constants: torch.Tensor, skip: torch.Tensor | None = None) -> None:
        """Update all rows: one launch."""
        if not self.count:
            return
        eight_bit = self.kinds[-1] >= kernel.EIGHT_BIT.value
        self._launch(
            kernel._adamw,
            self.count,
            self.table,
            constants,
            self.pieces,
            self._upload("codes", code_values()) if eight_bit else None,
            skip,
            KINDS=self._kinds,
            BLOCK=self.block,
            QUANT=self.quant,
            num_warps=warps(self.kinds),
            enable_fp_fusion=False,  # the fused operations are written out, as PyTorch has them
        )


def warps(kinds: list[int]) -> int:
    """Warps a program: 4 for wide loads; 8 where 4 run out of registers (fp32 in 8 bits)."""
    return 8 if kernel.EIGHT_BIT.value in kinds else 4


def table(rows: list[Row]) -> Array:
    """The int64 table of the kernels: see the columns in ``kernel.py``."""
    cells = []
    for row in rows:
        tensors = [getattr(row, name) for name in TENSORS]
        addresses = [0 if t is None else t.data_ptr() for t in tensors]
        moved = addresses[: len(FIELDS)]
        n = row.param.numel()
        wide = n if all(address % 16 == 0 for address in moved) else 0
        cells.append([*addresses, n, wide, row.kind, row.seed, row.number])
    return np.array(cells, np.int64)


def pieces(lengths: list[int], block: int) -> Array:
    """(tensor, block of it) for each program, int32."""
    counts = np.array([triton.cdiv(n, block) for n in lengths])
    tensor = np.repeat(np.arange(len(lengths)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([tensor, np.arange(counts.sum()) - first], axis=1).astype(np.int32)


def _hyper(group: dict[str, Any]) -> list[float]:
    known = {
        **group,
        "lr": 0.0 if isinstance(group["lr"], torch.Tensor) else group["lr"],
        "beta1": group["betas"][0],
        "beta2": group["betas"][1],
        "sign": -1.0 if group["maximize"] else 1.0,
    }
    return [float(known[name]) for name in HYPERPARAMETERS]
