"""Machine code is that of one compiler: what the layouts and limits were measured with."""

import pytest
import triton

TESTED = "3.7.1"

# With another Triton such a test still runs and its result is shown, but it decides nothing:
# 3.9.0 needs, for example, 8 bytes of stack for AdamW in fp32 on sm_80, and spills in the forward
# kernel at D = 128 on sm_100.
machine_code = pytest.mark.xfail(
    condition=triton.__version__ != TESTED,
    strict=False,
    reason=f"the layouts and limits were measured with Triton {TESTED}",
)
