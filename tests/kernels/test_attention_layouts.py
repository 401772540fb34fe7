"""The table of layouts, autotuning with it, and the forward pass with tensor descriptors."""

import threading

import pytest
import torch
from triton.runtime.autotuner import Autotuner

import kernels
from kernels.flash_attention import layouts
from kernels.flash_attention.call import EVERYWHERE, Problem, forward
from kernels.flash_attention.descriptor import fits, forward_descriptor
from kernels.flash_attention.layouts import LAYOUTS, MACHINES, RICH_LAYOUTS, Layout, layout_for
from kernels.verification.attention import compile_attention

KERNELS = ("forward", "dq", "dkv", "dbias", "decode")


def qkv(m: int = 37, n: int = 50, d: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 4, m, d), *2 * [(2, 2, n, d)]]
    q, k, v = (torch.randn(shape, generator=generator) for shape in shapes)
    return q, k, v


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_head_dim_has_a_layout_on_every_machine(kernel: str) -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for d in range(8, 257):
            for rich in (False, True):
                row = layouts.row_of_table(kernel, dtype, d, rich=rich)
                assert tuple(row) == MACHINES
                for layout in row.values():
                    sizes = (layout.block_m, layout.block_n)
                    assert all(16 <= n <= 128 and n & (n - 1) == 0 for n in sizes)
                    assert layout.num_warps in (4, 8) and layout.num_stages in (1, 2, 3)


def test_rich_rows_replace_some_of_the_plain_ones() -> None:
    assert RICH_LAYOUTS.keys() == LAYOUTS.keys()
    changed = {key for key in LAYOUTS if LAYOUTS[key] != RICH_LAYOUTS[key]}
    assert ("dkv", 2, 64) in changed and ("decode", 2, 64) not in changed


@pytest.mark.parametrize(
    ("capability", "machine"),
    [
        ((8, 0), "sm_80"),
        ((8, 9), "sm_80"),
        ((9, 0), "sm_90"),
        ((10, 0), "sm_100"),
        ((12, 0), "sm_80"),
    ],
)
def test_the_machine_of_a_device(
    capability: tuple[int, int], machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert layouts.machine_of(torch.device("cuda")) == machine
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(ValueError, match=r"capability 7\.5; the kernels need 8\.0 or newer"):
        layouts.machine_of(torch.device("cuda"))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert layouts.machine_of(torch.device("cuda")) == "gfx942"
    assert layouts.machine_of(torch.device("cpu")) == "sm_80"


def test_autotuning_takes_its_configurations_from_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launched = []
    real = kernels.flash_attention.call.launch

    def launch(kernel, *args, **kwargs):
        launched.append(kernel)
        return real(kernel, *args, **kwargs)

    monkeypatch.setattr(kernels.flash_attention.call, "launch", launch)
    q, k, v = qkv(d=64)
    plain = kernels.attention(q, k, v, causal=True)
    with kernels.autotune():
        tuned = kernels.attention(q.requires_grad_(), k, v, causal=True)
        tuned.sum().backward()
    tuners = [kernel for kernel in launched if isinstance(kernel, Autotuner)]
    assert not isinstance(launched[0], Autotuner) and len(tuners) == 3  # forward, dq, dkv
    forward_kernel = tuners[0]
    found = {
        Layout(c.kwargs["BLOCK_M"], c.kwargs["BLOCK_N"], c.num_warps, c.num_stages)
        for c in forward_kernel.configs
    }
    rows = (LAYOUTS["forward", 4, 64], RICH_LAYOUTS["forward", 4, 64])
    assert found == {layout for row in rows for layout in row.values()}
    torch.testing.assert_close(tuned, plain, atol=2e-6, rtol=0)


def test_packed_sequences_keep_to_the_table() -> None:
    q, k, v = (t[:1] for t in qkv())
    options = {
        "cu_seqlens_q": torch.tensor([0, 20, 37], dtype=torch.int32),
        "cu_seqlens_k": torch.tensor([0, 30, 50], dtype=torch.int32),
    }
    plain = kernels.attention(q, k, v, **options)
    with kernels.autotune():
        assert torch.equal(kernels.attention(q, k, v, **options), plain)


# ---- descriptors

SMALL = {"forward": Layout(16, 16, 4, 1)}


@pytest.mark.parametrize(
    ("m", "n", "d", "left", "right"),
    [(37, 50, 24, EVERYWHERE, 0), (50, 37, 64, 9, 0), (33, 64, 16, 5, 5), (1, 40, 8, 100, 100)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_descriptors_give_the_same_bits(
    m: int, n: int, d: int, left: int, right: int, dtype: torch.dtype
) -> None:
    q, k, v = (t.to(dtype) for t in qkv(m, n, d))
    problem = Problem(d**-0.5, left, right)
    found = forward_descriptor(q, k, v, problem, SMALL)
    wanted = forward(q, k, v, problem, SMALL)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_transposed_projection_fits_and_odd_strides_do_not() -> None:
    q, k, v = qkv()
    by_token = torch.randn(2, 37, 4, 24).transpose(1, 2)
    assert fits(by_token) and fits(q)
    assert not fits(by_token.mT) and not fits(q[..., 1:]) and not fits(torch.randn(1, 1, 4, 7))
    found = forward_descriptor(by_token, k, v, Problem(0.2, right=0), SMALL)[0]
    wanted = forward(by_token, k, v, Problem(0.2, right=0), SMALL)[0]
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"softcap": 3.0}, "plain scores, got softcap"),
        ({"dropout_p": 0.1, "seed": torch.zeros(1).long()}, "plain scores, got dropout_p"),
        ({"scale": -1.0}, "plain scores, got a negative scale"),
        ({"sinks": torch.zeros(4)}, "plain scores, got sinks"),
    ],
)
def test_descriptors_refuse_what_they_do_not_have(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        forward_descriptor(*qkv(), Problem(**{"scale": 0.3, **change}), SMALL)


def test_descriptors_refuse_strides_they_cannot_use() -> None:
    q, k, v = qkv()
    with pytest.raises(ValueError, match="k: a descriptor needs stride 1 in the last dimension"):
        forward_descriptor(q, k.mT.contiguous().mT, v, Problem(0.3), SMALL)
    assert layout_for("forward", q) == LAYOUTS["forward", 4, 32]["sm_80"]


@pytest.mark.parametrize("kernel", ["forward", "dq", "dkv"])
def test_the_first_column_fits_the_smallest_of_its_cards(kernel: str) -> None:
    """sm_86 has 100 KB of shared memory where sm_80 has 164."""
    layout = layouts.row_of_table(kernel, torch.float16, 256)["sm_80"]
    compiled = compile_attention(kernel, torch.float16, 256, "sm_86", layout=layout)
    assert compiled.blocks_per_multiprocessor >= 1 and compiled.spills_in_loop == 0


@pytest.mark.parametrize("kernel", ["forward", "dq", "dkv", "dbias"])
def test_rows_that_are_neighbours_in_memory_compile(kernel: str) -> None:
    """A row stride of 1 is a constant to the compiler: views like (B, H, D, T) transposed."""
    compiled = compile_attention(kernel, torch.float16, 16, "sm_90", transposed=True)
    assert compiled.registers > 0


def test_autotuning_reaches_the_thread_of_autograd() -> None:
    found = []
    with kernels.autotune():
        thread = threading.Thread(target=lambda: found.append(layouts.is_autotuning()))
        thread.start()
        thread.join()
    assert found == [True] and not layouts.is_autotuning()
