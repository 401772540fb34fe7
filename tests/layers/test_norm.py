import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from minift.layers.norm import RMSNorm

PAIRS = {False: LlamaRMSNorm, True: Gemma2RMSNorm}


@pytest.mark.parametrize("unit_offset", PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(5, 7, 12), (1, 1), (3, 0, 4), (2, 33)])
def test_as_theirs(unit_offset, dtype, shape):
    torch.manual_seed(0)
    ours = RMSNorm(shape[-1], 1e-3, unit_offset=unit_offset).to(dtype)
    theirs = PAIRS[unit_offset](shape[-1], 1e-3).to(dtype)
    assert torch.equal(ours.weight, theirs.weight)  # the start: a factor of 1
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.normal_())
    x = (3 * torch.randn(shape)).to(dtype)
    mine, other = (x.clone().requires_grad_() for _ in range(2))
    y, wanted = ours(mine), theirs(other)
    assert y.dtype == dtype
    assert torch.equal(y, wanted)
    (y.float().sin()).sum().backward()
    (wanted.float().sin()).sum().backward()
    assert torch.equal(mine.grad, other.grad)
    assert torch.equal(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize("unit_offset", PAIRS)
def test_by_the_formula_in_double_precision(unit_offset):
    torch.manual_seed(0)
    norm = RMSNorm(9, 1e-5, unit_offset=unit_offset).double()
    with torch.no_grad():
        norm.weight.normal_()
    x = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    factor = norm.weight + 1 if unit_offset else norm.weight
    wanted = x / ((x**2).sum(-1, keepdim=True) / 9 + 1e-5).sqrt() * factor
    assert torch.allclose(norm(x), wanted, atol=1e-14, rtol=0)
    # as a layer norm without its mean; the size of x does not matter
    assert torch.allclose(norm(1000 * x), norm(x), atol=1e-3)
    assert torch.autograd.gradcheck(norm, (x,))
