"""Compile a kernel for a GPU that is not there, and say what the machine code does.

    compiled = compile_for(add, x, y, out, n, BLOCK=1024, arch="sm_90")
    print(compiled.report())

The arguments are examples, of which only types, alignment and a few values matter: CPU tensors
and ``meta`` tensors (which take no memory) do. The launch rules are Triton's own, applied by
Triton's own launcher code: an integer 1 becomes a constant, integers and addresses divisible by
16 are noted as such, ``None`` removes an argument.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from kernels.lab import gcn, machine_code, sass
from kernels.lab.control_flow import Instruction, Loop, main_loops, mix, natural_loops
from kernels.lab.interpreter import LANGUAGE, resolve
from kernels.lab.occupancy import MACHINES, blocks_per_multiprocessor, occupancy

ARCHITECTURES = tuple(MACHINES)


@dataclass(frozen=True)
class Compiled:
    """A kernel's code for one architecture, from Triton's first form to the machine's.

    Attributes:
        registers: 32-bit registers a thread (on AMD: vector registers, accumulation included).
        shared_bytes: shared memory a block (on AMD: LDS).
        stack_bytes: local memory a thread (on AMD: scratch); it holds spilled registers.
        instructions: the machine code, in order.
        texts: every form as text, by the compiler's name for it.
    """

    kernel: str
    arch: str
    num_warps: int
    registers: int
    shared_bytes: int
    stack_bytes: int
    instructions: tuple[Instruction, ...]
    texts: dict[str, str]

    @property
    def ttir(self) -> str:
        """Triton's form of the kernel: blocks, before any choice about threads."""
        return self._text("ttir")

    @property
    def ttgir(self) -> str:
        """The same with layouts: which thread holds which element."""
        return self._text("ttgir")

    @property
    def ptx(self) -> str:
        """NVIDIA's portable assembly, without line numbers of the source."""
        return self._text("ptx")

    @property
    def amdgcn(self) -> str:
        """AMD's assembly."""
        return self._text("amdgcn")

    @property
    def sass(self) -> str:
        """The machine code, one instruction a line (NVIDIA's SASS, or AMD's ISA)."""
        return "\n".join(map(str, self.instructions))

    @property
    def instruction_mix(self) -> Counter[str]:
        """How many instructions of each kind the kernel has."""
        return mix(self.instructions)

    @cached_property
    def loops(self) -> list[Loop]:
        """Every natural loop, smallest first."""
        return natural_loops(self.instructions)

    @cached_property
    def main_loops(self) -> list[Loop]:
        """The innermost loops that use tensor cores, or else that touch memory."""
        return main_loops(self.loops)

    @property
    def main_loop(self) -> Loop | None:
        """The main loop that does most of the work: of a masked and an unmasked one, the latter."""
        return machine_code.leanest(self.main_loops)

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.num_warps * MACHINES[self.arch].warp_size

    @property
    def spills_in_loop(self) -> int:
        """Local-memory instructions inside any loop: registers that did not fit, paid each time."""
        return len({i.address for loop in self.loops for i in loop.body if i.kind == "local"})

    @property
    def occupancy(self) -> float:
        """The share of a multiprocessor's warp slots that the kernel can fill, 0 to 1 (a bound)."""
        return occupancy(self.arch, self.num_warps, self.registers, self.shared_bytes)

    @property
    def blocks_per_multiprocessor(self) -> int:
        """Blocks that fit on one multiprocessor at once; 0 means that the kernel cannot launch."""
        return blocks_per_multiprocessor(
            self.arch, self.num_warps, self.registers, self.shared_bytes
        )

    def opcodes(self, kind: str) -> Counter[str]:
        """How often each opcode of one kind occurs: ``opcodes("global")["LDG.E.128"]``."""
        return Counter(i.opcode for i in self.instructions if i.kind == kind)

    # ---- the main loop, or the whole kernel when it has none

    @property
    def core(self) -> tuple[Instruction, ...]:
        """The instructions of the main loop; of the whole kernel when it has none."""
        return self.main_loop.body if self.main_loop else self.instructions

    @property
    def bulk_loads(self) -> Counter[int]:
        """Widths in bits (0: tiles by the copy engine) of the loads that carry the data.

        The widths with at least a tenth of the bytes. Where a masked tail may stand beside the
        full block, that is, outside loops with matrix products, they are sought among the widest
        loads that suffice for the blocks which the kernel loads unmasked.
        """
        widths = machine_code.load_widths(self.core)
        if self.main_loop is None or not self.main_loop.mix["mma"]:
            wanted = machine_code.loaded_by_blocks(self.texts.get("ttir", ""))
            widths = machine_code.widest(widths, wanted / self.threads)
        return machine_code.bulk(widths)

    @property
    def asynchronous_copies(self) -> Counter[str]:
        """Copies from global to shared memory that nothing waits for, by opcode."""
        return Counter(i.opcode for i in self.core if machine_code.is_asynchronous(i))

    @property
    def tensor_core(self) -> str:
        """The tensor-core instruction: HMMA, HGMMA, UTCHMMA, v_mfma; empty when there is none."""
        return machine_code.tensor_core(self.core)

    @property
    def barriers(self) -> int:
        """Barriers of the block in the main loop."""
        return machine_code.barriers(self.core)

    @property
    def shared_stores(self) -> int:
        """Stores to shared memory in the main loop."""
        return machine_code.shared_stores(self.core)

    @property
    def step_flops(self) -> int:
        """FLOPs that the tensor cores do for a block in one pass of the main loop; 0 if unknown."""
        counted = sum(map(machine_code.mma_flops, self.core)) * self.num_warps
        return counted if counted and self.main_loop else self._step_dots

    @property
    def useful_flops(self) -> int:
        """The same without what several warps do alike, as they may on AMD."""
        alike = not self.arch.startswith("sm_")
        return (self._step_dots if alike else 0) or self.step_flops

    @property
    def _step_dots(self) -> int:
        """FLOPs of the ``tl.dot`` in the loop that became the main loop; 0 if that is not clear."""
        products = machine_code.dots_of_loops(self.texts.get("ttir", ""))
        if self.main_loop and len(products) == len(self.main_loops):
            return products[self.main_loops.index(self.main_loop)]
        return products[0] if self.main_loop and len(set(products)) == 1 else 0

    @property
    def flops_per_instruction(self) -> float:
        """FLOPs of matrix products of a warp for each instruction of the main loop."""
        return self.step_flops / self.num_warps / len(self.core)

    def instructions_per_score(self, scores: int) -> float:
        """x/score: instructions of a thread beside matrix products, for each attention score.

        x/score = (instructions of the main loop - tensor-core ones) · threads / scores, where
        ``scores`` is BLOCK_M · BLOCK_N, what one pass of the loop computes in a block. Scaling,
        maximum, exp2 and sum cost about 4.5 of it, rescaling the output D / BLOCK_N.
        """
        others = sum(i.kind != "mma" for i in self.core)
        return others * self.threads / scores

    def report(self) -> str:
        """A few lines: registers, spills, shared memory, occupancy, instruction mix."""
        lines = [
            f"{self.kernel} on {self.arch}, {self.num_warps} warps",
            f"  {self.registers} registers, {self.shared_bytes:,} B shared, "
            f"{self.stack_bytes} B stack, {self.spills_in_loop} spills in loops, "
            f"occupancy {self.occupancy:.0%}",
            f"  all  {len(self.instructions):>5} instructions: {_listed(self.instruction_mix)}",
        ]
        for loop in self.main_loops:
            lines.append(f"  loop {len(loop.body):>5} instructions: {_listed(loop.mix)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Compiled({self.kernel} for {self.arch}, {self.registers} registers)"

    def _text(self, form: str) -> str:
        if form not in self.texts:
            raise AttributeError(f"{self.arch} has no {form}; it has {', '.join(self.texts)}")
        return self.texts[form]


def compile_for(
    kernel: Any, *args: Any, arch: str = "sm_90", grid: Any = None, **kwargs: Any
) -> Compiled:
    """Compile a ``@triton.jit`` kernel for ``arch`` with no GPU.

    Args:
        kernel: the kernel, ``@triton.autotune`` (first configuration) and heuristics included.
        args: example arguments, as for a launch; tensors on the CPU or on ``meta``.
        arch: one of :data:`ARCHITECTURES`.
        grid: accepted so that a launch can be pasted; the code does not depend on it.
        kwargs: constexprs, further arguments, and launch options (``num_warps``, ``num_stages``,
            ``enable_fp_fusion``: a product and a sum may become one instruction; on by default).

    Raises:
        ValueError: unknown architecture.
        TypeError: not a kernel, or arguments that do not fit.
        triton.CompilationError: what the compiler has against the kernel.
    """
    if arch not in MACHINES:
        raise ValueError(f"arch: unknown {arch!r}; known: {', '.join(MACHINES)}")
    function, kwargs = resolve(kernel, args, kwargs)
    source, options, target = _specialised(function, args, kwargs, arch)
    with LANGUAGE:  # no other thread may be interpreting: it lends triton.language other meanings
        result: Any = triton.compile(source, target=target, options=options)
    texts = {k: _readable(k, v) for k, v in result.asm.items() if isinstance(v, str)}
    if target.backend == "cuda":
        code, registers, stack = sass.disassemble(result.asm["cubin"])
    else:
        code = gcn.parse(result.asm["amdgcn"])
        registers, stack = gcn.resources(result.asm["amdgcn"])
    return Compiled(
        kernel=function.__name__,
        arch=arch,
        num_warps=result.metadata.num_warps,
        registers=registers,
        shared_bytes=result.metadata.shared,
        stack_bytes=stack,
        instructions=tuple(code),
        texts=texts,
    )


def _specialised(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], arch: str
) -> tuple[ASTSource, dict[str, Any], GPUTarget]:
    """What the launcher would hand to the compiler for these arguments."""
    target = (
        GPUTarget("cuda", int(arch.removeprefix("sm_")), 32)
        if arch.startswith("sm_")
        else GPUTarget("hip", arch, MACHINES[arch].warp_size)
    )
    backend = make_backend(target)
    binder = create_function_from_signature(function.signature, function.params, backend)
    options = {"debug": False, "enable_fp_fusion": True, **kwargs}
    try:
        bound, specialization, options = binder(*args, **options)
    except TypeError as error:
        reason = str(error).replace("dynamic_func()", function.__name__)
        raise TypeError(f"kernel {function.__name__}{function.signature}: {reason}") from None
    parsed, signature, constexprs, attrs = function._pack_args(
        backend, options, bound, specialization, options
    )
    return ASTSource(function, signature, constexprs, attrs), parsed.__dict__, target


def example(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor to compile with: it has a shape and a type, and takes no memory."""
    return torch.empty(shape, dtype=dtype, device="meta")


_NOISE = re.compile(
    r"^\s*(#loc\d*\s*=.*|\.(loc|file)\s.*|\$L__\w+:|//.*)$|\s*loc\((?:[^()]|\([^()]*\))*\)",
    re.MULTILINE,
)
_DEBUG_SECTION = re.compile(r"\n\s*\.section\s+\.debug.*", re.DOTALL)


def _readable(form: str, text: str) -> str:
    """The text without source positions, which differ from one session to the next."""
    if form == "ptx":
        text = _DEBUG_SECTION.sub("\n", text)
    lines = _NOISE.sub("", text).splitlines()
    return "\n".join(line for line in lines if line.strip()) + "\n"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {n}" for kind, n in counts.items())
