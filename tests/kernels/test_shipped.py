"""Every configuration that users get keeps its loops in registers: ``pytest -m shipped``.

The default run compiles a sample (here, ``test_attention_code.py``, ``test_decoding.py``,
``test_adamw_machine.py``); this list takes minutes. ``python -m kernels report`` prints the same
as a table, with the targets.
"""

import pytest

from kernels.verification.attention import OPTIONS
from kernels.verification.outcome import Shipped
from kernels.verification.report import report_row
from kernels.verification.targets import machine_targets
from kernels.verification.verify import KERNELS

EVERY = {
    f"{one.kernel} {one.dtype} {one.variant} {arch}": (one, arch)
    for module, _ in KERNELS.values()
    for one in module.shipped(False)
    for arch in one.archs or ("sm_80", "sm_90", "sm_100")
}

SAMPLE = [
    "attention forward fp16 D=64 dropout sm_80",
    "attention dq fp16 D=64 softcap sm_90",
    "attention dkv fp16 D=128 bias sm_80",
    "attention delta fp16 D=64 sm_80",
    "decode sum fp16 D=64 sm_90",
]


def test_the_list_has_every_kernel_and_architecture() -> None:
    words = {word for name in EVERY for word in name.split()}
    wanted = "forward dq dkv dbias delta decode sum adamw sm_80 sm_90 sm_100 fp32 fp16 bf16 D=64"
    assert {*wanted.split(), "D=128", "D=256", *OPTIONS} <= words and len(EVERY) > 280
    with_options = [name for name in EVERY if set(OPTIONS) & set(name.split())]
    assert len(with_options) == 5 * 3 * 2 * 3  # options, kernels, head dims, architectures


@pytest.mark.parametrize("name", SAMPLE)
def test_options_and_helpers(name: str) -> None:
    assert_holds(*EVERY[name])


@pytest.mark.shipped
@pytest.mark.parametrize(("shipped", "arch"), EVERY.values(), ids=EVERY)
def test_shipped(shipped: Shipped, arch: str) -> None:
    assert_holds(shipped, arch)


def assert_holds(shipped: Shipped, arch: str) -> None:
    row = report_row(shipped, shipped.compile(arch))
    missed = [target.name for target in machine_targets([row]) if not target.met]
    assert missed == [] and row.registers > 0
    assert bool(row.tensor_core) or not shipped.tensor_cores
