"""AdamW for a whole model in one launch, and what a training step needs around it.

=================  ==========================================================================
``kernel``         the device code: one launch, a table of addresses, any mixture of dtypes
``rounding``       stochastic rounding to bf16
``eight_bit``      moments as 8-bit codes
``norm``           the global norm of the gradients, in one reading
``constants``      the numbers of a step, on the host or on the device
``table``          from tensors to launches
``groups``         what may be optimised
``state``          the state of a parameter, and where else it may come from
``optimizer``      :class:`AdamW`; ``optimizer_8bit``: :class:`AdamW8bit`
=================  ==========================================================================
"""

from kernels.adamw.constants import step_constants
from kernels.adamw.kernel import _adamw
from kernels.adamw.optimizer import AdamW
from kernels.adamw.optimizer_8bit import AdamW8bit
from kernels.adamw.table import BLOCK, Row, update

__all__ = ["BLOCK", "AdamW", "AdamW8bit", "Row", "_adamw", "step_constants", "update"]
