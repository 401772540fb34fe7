"""Where a kernel runs is decided by its tensors; without a GPU, by stand-ins for it."""

from contextlib import contextmanager

import pytest
import torch
import triton
import triton.language as tl

from kernels.launch import launch


@triton.jit
def _fill(out, N: tl.constexpr, num_warps: tl.constexpr = 4):
    tl.store(out + tl.arange(0, N), 3.0)


def test_cpu_tensors_are_interpreted() -> None:
    out = torch.zeros(8)
    launch(_fill, (1,), out, N=8)
    assert (out == 3).all()


def test_other_devices_get_the_kernel_itself_on_their_own_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Triton launches on the current CUDA device, whichever the tensors are on."""
    seen = []

    @contextmanager
    def current(device: torch.device):
        seen.append(("enter", device))
        yield
        seen.append(("leave", device))

    class Kernel:
        def __getitem__(self, grid: tuple[int, ...]):
            return lambda *args, **options: seen.append((grid, options))

    monkeypatch.setattr(torch.cuda, "device", current)
    out = torch.zeros(8, device="meta")
    launch(Kernel(), (5,), 1, out, memory={"more": [out]}, N=8, num_warps=2)
    options = {"N": 8, "num_warps": 2, "enable_fp_fusion": True}
    assert seen == [("enter", out.device), ((5,), options), ("leave", out.device)]
