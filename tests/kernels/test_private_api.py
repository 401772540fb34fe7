"""What ``kernels/lab`` takes from inside Triton, by name.

These are not public. When a new Triton lacks one, the first test below names it and the file that
has to follow; everything else that fails is a consequence.
"""

import inspect
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton._C.libtriton import ir
from triton.backends.nvidia import compiler as nvidia
from triton.compiler import ASTSource, make_backend
from triton.runtime import autotuner, interpreter, jit

from kernels.lab import check, compile_for, interpret

BUILDER, INTERPRETER, REDUCTIONS, SOURCE, COMPILER = (
    f"kernels/lab/{name}.py"
    for name in ("builder", "interpreter", "reductions", "source", "compiler")
)
BUILDER_METHODS = [
    "create_masked_load",
    "create_masked_store",
    "create_make_tensor_descriptor",
    "create_atomic_rmw",
    "create_atomic_cas",
    "cast_impl",
    "create_fp_to_fp",
    "create_int_to_ptr",
    "unary_op",
    "binary_op",
    "create_fma",
    "create_maxnumf",
    "create_minnumf",
    "create_clampf",
    "create_dot",
    "create_addptr",
    "create_bitcast",
    "create_broadcast",
    "create_expand_dims",
    "create_reshape",
    "create_splat",
    "create_trans",
    "create_unsplat",
    "set_grid_dim",
    "set_grid_idx",
]
USED: list[tuple[Any, str, str]] = [
    *((interpreter.InterpreterBuilder, name, BUILDER) for name in BUILDER_METHODS),
    *((interpreter, name, BUILDER) for name in ("TensorHandle", "_get_np_dtype", "_convert_float")),
    *((interpreter._interpreter, name, BUILDER) for name in ("load", "store")),
    (nvidia, "min_dot_size", BUILDER),
    (ir.ROUNDING_MODE, "RTZ", BUILDER),
    (ir.PROPAGATE_NAN, "ALL", BUILDER),
    (ir.INPUT_PRECISION, "TF32", BUILDER),
    *(
        (interpreter, name, INTERPRETER)
        for name in [
            "interpreter_builder",
            "interpreter_semantic",
            "InterpretedFunction",
            "TensorDescriptor",
            "_implicit_cvt",
            "_patch_lang",
            "_tuple_create",
        ]
    ),
    *((interpreter, name, REDUCTIONS) for name in ("ReduceOps", "ScanOps")),
    *(
        (interpreter.ReduceOps, name, REDUCTIONS)
        for name in ("min_max", "sum", "generic_reduce", "to_tensor")
    ),
    *((interpreter.ScanOps, name, REDUCTIONS) for name in ("cumsum", "cumprod", "generic_scan")),
    (interpreter.TensorDescHandle, "materialize_pointers", BUILDER),
    (autotuner.Autotuner, "run", INTERPRETER),
    (autotuner.Heuristics, "run", INTERPRETER),
    (autotuner.Config, "all_kwargs", INTERPRETER),
    *((owner, "reduce", INTERPRETER) for owner in (tl, tl.core)),
    *((owner, "associative_scan", INTERPRETER) for owner in (tl, tl.core)),
    (tl, "multiple_of", INTERPRETER),
    (jit.JITFunction, "__call__", INTERPRETER),
    (interpreter.FunctionRewriter, "ast_transformer", SOURCE),
    (jit.JITFunction, "parse", SOURCE),
    (jit, "create_function_from_signature", COMPILER),
    (jit.JITFunction, "_pack_args", COMPILER),
]


@pytest.mark.parametrize(("owner", "name", "file"), USED, ids=[f"{n}" for _, n, _ in USED])
def test_is_there(owner: Any, name: str, file: str) -> None:
    assert hasattr(owner, name), (
        f"triton {triton.__version__} has no {getattr(owner, '__name__', owner)}.{name}: "
        f"look at {file}"
    )


def test_signatures() -> None:
    builder = interpreter.InterpreterBuilder
    expected = {
        (builder.create_dot, BUILDER): ["self", "a", "b", "d"],
        (builder.binary_op, BUILDER): ["self", "lhs", "rhs", "op"],
        (builder.create_fp_to_fp, BUILDER): ["self", "src", "dst_type", "rounding_mode"],
        (builder.create_masked_load, BUILDER): ["self", "ptrs", "mask", "other"],
        (builder.create_masked_store, BUILDER): ["self", "ptrs", "value", "mask"],
        (interpreter.ReduceOps.__init__, REDUCTIONS): ["self", "axis", "combine_fn", "keep_dims"],
        (interpreter.ScanOps.__init__, REDUCTIONS): ["self", "axis", "combine_fn", "reverse"],
        (jit.create_function_from_signature, COMPILER): ["sig", "kparams", "backend"],
        (ASTSource.__init__, COMPILER): ["self", "fn", "signature", "constexprs", "attrs"],
        (make_backend, COMPILER): ["target"],
    }
    for (function, file), start in expected.items():
        names = list(inspect.signature(function).parameters)
        assert names[: len(start)] == start, (
            f"triton {triton.__version__}: {function.__qualname__} takes {names}: look at {file}"
        )


def test_a_kernel_has_the_parts_that_are_read() -> None:
    for name in ("fn", "params", "signature", "arg_names", "constexprs", "raw_src"):
        assert hasattr(_canary, name), f"JITFunction has no {name}: look at {SOURCE}"
    assert _canary.starting_line_number == inspect.getsourcelines(_canary.fn)[1]
    assert isinstance(tl.sum, jit.JITFunction), f"tl.sum is not a JITFunction: {INTERPRETER}"


@triton.jit
def _helper(x, GAIN: tl.constexpr):
    return x * GAIN


@triton.jit
def _canary(x, out, n, eps, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n, other=0.0)
    total = tl.sum(_helper(a.to(tl.float32), 2.0), 0)
    tl.store(out, (total + eps).to(tl.bfloat16))


def test_interpret_compile_interpret() -> None:
    """One kernel with a helper and a reduction, both ways and back in one process."""
    x, out = torch.ones(50, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.bfloat16)
    for _ in range(2):
        with check() as report:
            interpret(_canary)[(1,)](x, out.zero_(), 50, 0.25, BLOCK=64)
        assert out.item() == 100 and report.loaded == 100
        compiled = compile_for(_canary, x, out, 50, 0.25, BLOCK=64, arch="sm_90")
        assert compiled.registers > 0 and "EXIT" in compiled.sass
