"""GPU kernels in Triton, checked without a GPU."""

import kernels

kernels.require_triton("an exercise about kernels")
