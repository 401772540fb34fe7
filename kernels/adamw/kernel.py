# mypy: allow-untyped-defs
"""The device code of AdamW: one launch updates every tensor of a model.

A row of the *table* (int64) describes a tensor: the addresses of what belongs to it, its length,
and its *kind*: how its weights and its moments are stored. The *pieces* say which part of which
tensor a program updates. The *constants* are the numbers of this step, a row a tensor.

A kind is a branch that a whole program takes, and only the kinds that a model has are compiled: a
mixture stays one launch, and a model of one dtype pays one comparison a program for that.

A step does almost no arithmetic: what it costs is memory traffic. So a value is read and written
once, everything between is in registers and fp32, and the roundings are PyTorch's (``tl.fma`` where
its vector code has one), so that both moments agree with it bit for bit.
"""

import triton
import triton.language as tl

from kernels.adamw.eight_bit import _dequantise, _quantise
from kernels.adamw.rounding import _stochastic_bf16

# How weights are stored: plain fp32; a 16-bit parameter with its fp32 master; bf16 alone.
FP32 = tl.constexpr(0)
BF16_MASTER = tl.constexpr(1)
FP16_MASTER = tl.constexpr(2)
BF16_STOCHASTIC = tl.constexpr(3)
EIGHT_BIT = tl.constexpr(4)  # added to one of them: both moments are 8-bit codes, not fp32

# Columns of the table.
PARAM = tl.constexpr(0)
GRAD = tl.constexpr(1)
EXP_AVG = tl.constexpr(2)
EXP_AVG_SQ = tl.constexpr(3)
MASTER = tl.constexpr(4)  # 0 where there is none, like the next two
EXP_AVG_SCALE = tl.constexpr(5)
EXP_AVG_SQ_SCALE = tl.constexpr(6)
STEP = tl.constexpr(7)
LENGTH = tl.constexpr(8)
WIDE = tl.constexpr(9)  # the length again, or 0 if an address is not divisible by 16
KIND = tl.constexpr(10)
SEED = tl.constexpr(11)
NUMBER = tl.constexpr(12)  # of the parameter in the optimiser: its own stream of random bits
COLUMNS = tl.constexpr(13)

CONSTANTS = tl.constexpr(9)


@triton.jit
def _adamw(
    table,  # int64 (tensors, COLUMNS)
    constants,  # fp32 (tensors, CONSTANTS)
    pieces,  # int32 (programs, 2): tensor, and which BLOCK of it
    codes,  # fp32 (2, 256): values of the 8-bit codes; None when no tensor has them
    skip,  # int32 (1,): whether to leave everything as it is; None: never
    KINDS: tl.constexpr,  # bit k is set when some tensor is of kind k; no other is compiled
    BLOCK: tl.constexpr,
    QUANT: tl.constexpr,  # 8-bit codes that share a scale
):
    if skip is not None:  # noqa: SIM102
        if tl.load(skip) != 0:
            return
    piece = pieces + 2 * tl.program_id(0)
    tensor = tl.load(piece).to(tl.int64)
    start = tl.load(piece + 1).to(tl.int64) * BLOCK
    row = table + COLUMNS * tensor
    constant = constants + CONSTANTS * tensor
    wide = start + BLOCK <= tl.load(row + WIDE)
    kind = tl.load(row + KIND)
    for K in tl.static_range(8):
        if (KINDS >> K) % 2 == 1:  # noqa: SIM102
            if kind == K:
                # A mask costs the wide loads, so only the last piece of a tensor has one.
                if wide:
                    _update(row, constant, codes, start, K % 4, K >= 4, False, BLOCK, QUANT)
                else:
                    _update(row, constant, codes, start, K % 4, K >= 4, True, BLOCK, QUANT)


@triton.jit
def _update(
    row,
    constant,
    codes,
    start,
    WEIGHT: tl.constexpr,
    QUANTISED: tl.constexpr,
    MASK: tl.constexpr,
    BLOCK: tl.constexpr,
    QUANT: tl.constexpr,
):
    """Update elements ``start`` to ``start + BLOCK`` of one tensor."""
    HAS_MASTER: tl.constexpr = (WEIGHT == BF16_MASTER) | (WEIGHT == FP16_MASTER)

    i = start + tl.arange(0, BLOCK)
    if MASK:
        inside = i < tl.load(row + LENGTH)
    else:
        inside = None
    p_ptr = _stored(row + PARAM, WEIGHT, MASK) + i
    g_ptr = _stored(row + GRAD, WEIGHT, MASK) + i
    if HAS_MASTER:
        w_ptr = _pointer(row + MASTER, tl.float32, MASK) + i
    else:
        w_ptr = p_ptr
    w = tl.load(w_ptr, mask=inside).to(tl.float32)
    g = tl.load(g_ptr, mask=inside).to(tl.float32)

    if QUANTISED:
        m_ptr = _pointer(row + EXP_AVG, tl.uint8, MASK) + i
        v_ptr = _pointer(row + EXP_AVG_SQ, tl.uint8, MASK) + i
        block = start // QUANT + tl.arange(0, BLOCK // QUANT)
        used = block * QUANT < tl.load(row + LENGTH)
        m_scale = tl.load(row + EXP_AVG_SCALE).to(tl.pointer_type(tl.float32)) + block
        v_scale = tl.load(row + EXP_AVG_SQ_SCALE).to(tl.pointer_type(tl.float32)) + block
        m_codes, v_codes = tl.load(m_ptr, mask=inside), tl.load(v_ptr, mask=inside)
        m = _dequantise(m_codes, tl.load(m_scale, mask=used), codes, QUANT)
        v = _dequantise(v_codes, tl.load(v_scale, mask=used), codes + 256, QUANT)
    else:
        m_ptr = _pointer(row + EXP_AVG, tl.float32, MASK) + i
        v_ptr = _pointer(row + EXP_AVG_SQ, tl.float32, MASK) + i
        m = tl.load(m_ptr, mask=inside)
        v = tl.load(v_ptr, mask=inside)

    w, m, v = _step(w, g, m, v, constant)

    if QUANTISED:
        if MASK:  # what lies past the end must not set the scale
            m = tl.where(inside, m, 0.0)
            v = tl.where(inside, v, 0.0)
        m_codes, m_max = _quantise(m, True, BLOCK, QUANT)
        v_codes, v_max = _quantise(v, False, BLOCK, QUANT)
        tl.store(m_ptr, m_codes, mask=inside)
        tl.store(v_ptr, v_codes, mask=inside)
        tl.store(m_scale, m_max, mask=used)
        tl.store(v_scale, v_max, mask=used)
    else:
        tl.store(m_ptr, m, mask=inside)
        tl.store(v_ptr, v, mask=inside)
    if HAS_MASTER:
        tl.store(w_ptr, w, mask=inside)
    if WEIGHT == BF16_STOCHASTIC:
        step = tl.load(constant + 8).to(tl.int32)
        p = _stochastic_bf16(w, start, tl.load(row + SEED), tl.load(row + NUMBER), step, BLOCK)
        tl.store(p_ptr, p, mask=inside)
    else:
        tl.store(p_ptr, w.to(p_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _step(p, g, m, v, constant):
    """The arithmetic, in fp32 registers."""
    decay = tl.load(constant)  # 1 - lr * weight_decay
    one_minus_beta1 = tl.load(constant + 1)
    beta2 = tl.load(constant + 2)
    one_minus_beta2 = tl.load(constant + 3)
    eps = tl.load(constant + 4)
    step_size = tl.load(constant + 5)  # -lr / (1 - beta1**step)
    sqrt_correction2 = tl.load(constant + 6)  # sqrt(1 - beta2**step)
    g = g * tl.load(constant + 7)  # clipping, 1 / grad_scale, and -1 to maximise

    # From whichever end is nearer: m + (1 - beta1)(g - m) or g + beta1 (m - g).
    near_m = tl.fma(g - m, one_minus_beta1, m)
    near_g = tl.fma(m - g, 1.0 - one_minus_beta1, g)
    m = tl.where(one_minus_beta1 < 0.5, near_m, near_g)
    v = tl.fma(g * one_minus_beta2, g, v * beta2)
    denominator = tl.div_rn(tl.sqrt_rn(v), sqrt_correction2) + eps
    p = p * decay + tl.div_rn(step_size * m, denominator)
    return p, m, v


@triton.jit
def _stored(cell, WEIGHT: tl.constexpr, MASK: tl.constexpr):
    """The address in a cell of a parameter or gradient, in the dtype of its kind of weights."""
    if WEIGHT == FP32:
        stored = tl.float32
    elif WEIGHT == FP16_MASTER:
        stored = tl.float16
    else:
        stored = tl.bfloat16
    return _pointer(cell, stored, MASK)


@triton.jit
def _pointer(cell, DTYPE: tl.constexpr, MASK: tl.constexpr):
    """The address in a cell of the table; where no mask is, it is divisible by 16."""
    pointer = tl.load(cell).to(tl.pointer_type(DTYPE))
    if not MASK:
        pointer = tl.multiple_of(pointer, 16)
    return pointer
