import math

import pytest
import torch
import transformers
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from minift.errors import InputError
from minift.layers.rotary import Rope, read_rope_parameters, rotate

D, TRAINED = 16, 64
SHORT = [1.0 + 0.1 * i for i in range(D // 2)]
LONG = [1.0 + 3.0 * i for i in range(D // 2)]
KINDS = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "factor": 1.1},
    "dynamic-strong": {"rope_type": "dynamic", "factor": 6.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn-by-lengths": {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 8},
    "yarn-no-ramp": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
        "beta_fast": 1000.0, "beta_slow": 900.0,
    },
    "yarn-all": {
        "rope_type": "yarn", "factor": 4.0, "truncate": False, "beta_fast": 4.0, "beta_slow": 0.5,
        "mscale": 1.3, "mscale_all_dim": 0.7,
    },
    "yarn-amplitude": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.7},
    "longrope": {
        "rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG,
        "original_max_position_embeddings": 16,
    },
    "longrope-factor": {
        "rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "factor": 3.0,
        "original_max_position_embeddings": 20,
    },
    "longrope-amplitude": {
        "rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG,
        "attention_factor": 0.8,
    },
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 48,
    },
    "proportional": {"rope_type": "proportional", "factor": 2.0, "partial_rotary_factor": 0.6},
}  # fmt: skip


def ours_and_theirs(name, theta):
    parameters = {**KINDS[name], "rope_theta": theta}
    ours = Rope.from_parameters(read_rope_parameters({"rope_parameters": parameters}, 1.0), D, 64)
    config = transformers.LlamaConfig(
        hidden_size=64, num_attention_heads=4, max_position_embeddings=TRAINED,
        rope_parameters=dict(parameters),
    )  # fmt: skip
    return ours, LlamaRotaryEmbedding(config)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("theta", [10_000.0, 500.0, 1_000_000])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 48, 63, 64, 65, 200, 9000])
def test_every_angle_to_the_last_bit(name, theta, length):
    ours, theirs = ours_and_theirs(name, theta)
    positions = torch.arange(length)[None]
    cos, sin = ours.rotation(positions, torch.float32)
    wanted_cos, wanted_sin = theirs(torch.zeros(1), positions)  # (1, T, D), each angle twice
    assert cos.shape == (1, 1, length, D)
    assert torch.equal(ours.frequencies(torch.tensor(length)), theirs.inv_freq)
    assert torch.equal(cos[:, 0], wanted_cos)
    assert torch.equal(sin[:, 0], wanted_sin)


@pytest.mark.parametrize("name", ["default", "yarn", "dynamic"])
def test_rotate_and_its_gradient(name):
    ours, theirs = ours_and_theirs(name, 100.0)
    torch.manual_seed(0)
    positions = torch.randint(0, 90, (3, 7))
    mine, other = torch.randn(2, 3, 4, 7, D), torch.randn(3, 4, 7, D)
    q = mine[0].clone().requires_grad_()
    again = mine[0].clone().requires_grad_()
    turned = rotate(q, ours.rotation(positions, torch.float32))
    wanted, _ = apply_rotary_pos_emb(again, other, *theirs(other, positions))
    assert torch.equal(turned, wanted)
    (turned * mine[1]).sum().backward()
    (wanted * mine[1]).sum().backward()
    assert torch.equal(q.grad, again.grad)


def test_products_depend_on_the_distance_only():
    rope = Rope(D, TRAINED)
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, D, dtype=torch.float64)

    def product(m, n):
        turned = [
            rotate(x, rope.rotation(torch.tensor([[place]]), torch.float64))
            for x, place in ((q, m), (k, n))
        ]
        return float((turned[0] * turned[1]).sum())

    assert product(3, 1) == pytest.approx(product(33, 31), abs=1e-5)
    assert product(0, 0) == pytest.approx(float((q * k).sum()), abs=1e-12)
    assert abs(product(3, 1) - product(1, 3)) > 0.1
    # by hand: pair 0 turns by 1 a position
    turned = rotate(q, rope.rotation(torch.tensor([[2]]), torch.float64))[0, 0, 0]
    a, b = float(q[..., 0]), float(q[..., D // 2])
    assert float(turned[0]) == pytest.approx(a * math.cos(2) - b * math.sin(2), abs=1e-6)
    assert float(turned[D // 2]) == pytest.approx(b * math.cos(2) + a * math.sin(2), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_angles_are_fp32_in_every_dtype(dtype):
    rope, far = Rope(D, TRAINED), torch.tensor([[257, 40_001]])
    cos, sin = rope.rotation(far, dtype)
    wanted = rope.rotation(far, torch.float32)
    assert cos.dtype == sin.dtype == dtype
    assert torch.equal(cos, wanted[0].to(dtype)) and torch.equal(sin, wanted[1].to(dtype))


def test_equal_ropes_are_one():
    one, other = (Rope.from_parameters(KINDS["longrope"], D, 64) for _ in range(2))
    assert one == other and len({one, other}) == 1


def test_both_layouts_of_a_config():
    old = {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}}
    new = {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}}
    assert read_rope_parameters(old, 1e4) == read_rope_parameters(new, 1e4)
    assert read_rope_parameters({}, 1e4) == {"rope_type": "default", "rope_theta": 1e4}
    assert read_rope_parameters({"rope_theta": 7.0, "rope_scaling": None}, 1e4)["rope_theta"] == 7.0
    outside = {"original_max_position_embeddings": 8, "rope_scaling": {"type": "yarn", "factor": 2}}
    inside = {"rope_scaling": {"type": "yarn", "original_max_position_embeddings": 9, "factor": 2}}
    assert read_rope_parameters(outside, 1.0)["original_max_position_embeddings"] == 8
    assert read_rope_parameters(outside | inside, 1.0)["original_max_position_embeddings"] == 8
    assert read_rope_parameters(inside, 1.0)["original_max_position_embeddings"] == 9
    plain = {"original_max_position_embeddings": 8, "rope_scaling": {"type": "linear", "factor": 2}}
    assert "original_max_position_embeddings" not in read_rope_parameters(plain, 1.0)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rope_type": "default", "factor": 2.0},
         "factor is not an option of rope_type='default'; right: only rope_theta"),
        ({"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0},
         "high_freq_factor is missing; rope_type='llama3' needs factor, low_freq_factor, "
         "high_freq_factor"),
        ({"rope_theta": -1.0}, "rope_theta=-1.0; right: a number above 0"),
        ({"rope_theta": True}, "rope_theta=True; right: a number above 0"),
        ({"rope_theta": float("inf")}, "rope_theta=inf; right: a number above 0"),
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8.5},
         "original_max_position_embeddings=8.5; right: a whole number above 0"),
        ({"rope_type": "longrope", "short_factor": 3.0, "long_factor": LONG},
         "short_factor: 3.0; right: a list of 8"),
        ({"rope_type": "longrope", "short_factor": SHORT, "long_factor": [0.0] * 8},
         "long_factor=0.0; right: a number above 0"),
        ({"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5},
         "partial_rotary_factor is not an option of rope_type='linear'; right: factor"),
    ],
)  # fmt: skip
def test_what_is_refused(parameters, message):
    with pytest.raises(InputError) as caught:
        Rope.from_parameters(parameters, D, 64)
    assert str(caught.value) == f"config: rope_parameters: {message}"
