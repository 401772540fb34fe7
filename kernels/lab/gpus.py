"""What four GPUs can do at most, from their vendors' documents.

Peaks are dense (no 2:4 sparsity) and at the clock that the vendor quotes them for, which a GPU
does not hold under load: everything computed from them is a bound.

Sources, by name:
  A100   "NVIDIA A100 Tensor Core GPU Data Sheet" (80 GB SXM); "NVIDIA A100 Tensor Core GPU
         Architecture" (white paper), tables 4 and 5.
  H100   "NVIDIA H100 Tensor Core GPU Data Sheet" (SXM); "NVIDIA H100 Tensor Core GPU
         Architecture" (white paper), table 3: 1,830 MHz for tensor cores, 1,980 MHz otherwise.
  B200   "NVIDIA HGX B200" data sheet, figures of one GPU.
  MI300X "AMD Instinct MI300X Accelerator Data Sheet"; "AMD CDNA 3 Architecture" (white paper).
  Results a clock and multiprocessor: "CUDA C++ Programming Guide", table "Throughput of native
  arithmetic instructions"; for CDNA 3 its white paper and ISA reference, four SIMDs of 16 lanes,
  where fp32 comes two at a time (packed) and transcendentals at a quarter of the rate.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """Peak rates of one GPU.

    Attributes:
        clock: Hz at which the tensor-core peak is quoted.
        bandwidth: bytes a second of global memory.
        flops: dtype -> FLOP/s; "fp32" without tensor cores, "tf32" is fp32 on tensor cores.
        tensor: FLOPs of 16-bit matrix products a clock and multiprocessor.
        lanes: pipe -> results a clock and multiprocessor (threads, not warps).
        shared: bytes of shared memory a clock and multiprocessor.
        issue: warp instructions a clock and multiprocessor.
    """

    name: str
    multiprocessors: int
    clock: float
    bandwidth: float
    flops: dict[str, float]
    tensor: int
    lanes: dict[str, int]
    shared: int = 128
    issue: int = 4


def _peaks(half: float, tf32: float, fp32: float) -> dict[str, float]:
    """FLOP/s from TFLOP/s."""
    return {"fp16": half * 1e12, "bf16": half * 1e12, "tf32": tf32 * 1e12, "fp32": fp32 * 1e12}


_NVIDIA = {"fp32": 128, "integer": 64, "exp2": 16, "convert": 64, "shuffle": 32}

GPUS = {
    "sm_80": Gpu(
        "A100", 108, 1.41e9, 2.039e12, _peaks(312, 156, 19.5), 2048, _NVIDIA | {"fp32": 64}
    ),
    "sm_90": Gpu("H100", 132, 1.83e9, 3.35e12, _peaks(989.4, 494.7, 66.9), 4096, _NVIDIA),
    "sm_100": Gpu("B200", 148, 1.86e9, 7.7e12, _peaks(2250, 1100, 75), 8192, _NVIDIA),
    "gfx942": Gpu(
        "MI300X",
        304,
        2.1e9,
        5.3e12,
        _peaks(1307.4, 653.7, 163.4),
        2048,
        {"fp32": 128, "integer": 64, "exp2": 16, "convert": 64, "shuffle": 64},
    ),
}


def gpu(arch: str) -> Gpu:
    """The GPU of an architecture; ``ValueError`` when it is not in the table."""
    if arch not in GPUS:
        raise ValueError(f"arch: no data sheet for {arch!r}; known: {', '.join(GPUS)}")
    return GPUS[arch]
