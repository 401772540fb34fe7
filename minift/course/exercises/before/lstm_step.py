"""before.lstm_step: one word more in an LSTM's memory."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.properties import Equals, keeps_dtype

# (B, C, H): different where they can be
SHAPES = [(1, 1, 1), (2, 3, 4), (5, 2, 1), (3, 4, 6), (1, 7, 3)]
SIZE = 4.0  # gates far from ½, where a wrong one shows


def without_input() -> Iterator[Inputs]:
    """x = h = 0: the biases alone set the gates."""
    for write, keep, show in ((9.0, -9.0, 9.0), (-9.0, 9.0, 9.0), (0.0, 9.0, -9.0), (9.0, 9.0, 0)):
        yield {
            "x": torch.zeros(1, 1),
            "h": torch.zeros(1, 1),
            "c": torch.full((1, 1), 0.5),
            "w": torch.zeros(4, 1, 1),
            "u": torch.zeros(4, 1, 1),
            "b": torch.tensor([[write], [keep], [0.25], [show]]),
        }


def several() -> Iterator[Inputs]:
    for seed, (batch, inputs, hidden) in enumerate(SHAPES * 2):
        yield {
            "x": normal(batch, inputs, seed=seed),
            "h": normal(batch, hidden, seed=50 + seed),
            "c": normal(batch, hidden, seed=100 + seed),
            "w": SIZE * normal(4, hidden, inputs, seed=150 + seed) / (inputs + hidden) ** 0.5,
            "u": SIZE * normal(4, hidden, hidden, seed=200 + seed) / (inputs + hidden) ** 0.5,
            "b": normal(4, hidden, seed=250 + seed),
        }


equals = Equals(
    "equals PyTorch's LSTMCell, in fp64",
    several,
    "i, f and o are sigmoids, g is a tanh; c′ = f · c + i · g and h′ = o · tanh(c′).",
    ulps=256,
)

exercise = Exercise(
    "before.lstm_step",
    "One step of an LSTM",
    properties=(
        Equals("keeps, writes and shows as the gates say", without_input, "Four gates.", ulps=64),
        equals,
        keeps_dtype(equals, torch.float64, ulps=256),
    ),
    hints=(
        "All four have the same form: W[n] x + U[n] h + b[n], with n = 0 for i, 1 for f, 2 for g "
        "and 3 for o.",
        "`x @ w[n].T` is (B, H), and so are `h @ u[n].T` and, after broadcasting, `b[n]`.",
        "i, f and o go through `.sigmoid()`, g through `.tanh()`. The new c is f · c + i · g, and "
        "the new h is o · tanh of the *new* c.",
    ),
)


@exercise.stub
def lstm_step(
    x: Tensor, h: Tensor, c: Tensor, w: Tensor, u: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """The state (h, c) after the word x.

    x: (B, C), h and c: (B, H), w: (4, H, C), u: (4, H, H), b: (4, H). The four parts of w, u and b
    belong to i (write), f (keep), g (what to write) and o (show), in this order. Returns the new
    (h, c), each (B, H), of the same dtype.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(
    x: Tensor, h: Tensor, c: Tensor, w: Tensor, u: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    i, f, g, o = (x @ w[n].T + h @ u[n].T + b[n] for n in range(4))
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@exercise.reference
def by_pytorch(
    x: Tensor, h: Tensor, c: Tensor, w: Tensor, u: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    cell = nn.LSTMCell(x.shape[1], h.shape[1], dtype=torch.float64)
    weights = {"weight_ih": w.flatten(0, 1), "weight_hh": u.flatten(0, 1), "bias_ih": b.flatten()}
    cell.load_state_dict({**weights, "bias_hh": torch.zeros_like(weights["bias_ih"])})
    new_h, new_c = cell(x.double(), (h.double(), c.double()))
    return new_h.detach(), new_c.detach()


exercise.slip(
    "gates_in_another_order",
    "i, f, g, o =",
    "i, g, f, o =",
    "f and g are exchanged: the parts of w, u and b come in the order i, f, g, o.",
)
exercise.slip(
    "shows_all_of_the_memory",
    "o.sigmoid() * c.tanh(), c",
    "o.sigmoid() * c, c",
    "h is o times tanh(c): the memory c itself can grow beyond 1, what is shown cannot.",
)
exercise.slip(
    "writes_a_sigmoid",
    "g.tanh()",
    "g.sigmoid()",
    "g goes through tanh: a sigmoid could only ever add to the memory, never take away.",
)
exercise.slip(
    "always_writes",
    "i.sigmoid() * g.tanh()",
    "g.tanh()",
    "The write gate i is missing: g is added to the memory as far as i lets it.",
)
exercise.slip(
    "one_gate_for_both",
    "f.sigmoid() * c",
    "(1 - i.sigmoid()) * c",
    "Keeping was taken to be 1 − i; an LSTM has a gate f of its own for that.",
)
exercise.slip(
    "memory_first",
    "o.sigmoid() * c.tanh(), c",
    "c, o.sigmoid() * c.tanh()",
    "The two results are exchanged: first h, then c.",
)
exercise.slip(
    "ignores_the_state",
    " + h @ u[n].T",
    "",
    "The gates do not see h: what to keep and what to write depends on the words before, too.",
)
