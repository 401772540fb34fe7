"""experts.mix_experts: route each token to its best experts and mix what they say."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.properties import Equals, Gradient

# (T, C, E, F, k): one token, one expert, all experts, odd sizes
SHAPES = [(2, 2, 2, 3, 2), (3, 4, 3, 5, 2), (1, 3, 5, 2, 3), (9, 6, 4, 7, 2), (17, 5, 8, 3, 4)]


def of(t: int, c: int, e: int, f: int, k: int, seed: int) -> Inputs:
    return {
        "x": normal(t, c, seed=seed),
        "router": normal(e, c, seed=100 + seed),
        "up": normal(e, f, c, seed=200 + seed),
        "down": normal(e, c, f, seed=300 + seed),
        "k": k,
    }


def one_expert() -> Iterator[Inputs]:
    yield of(2, 2, 1, 2, 1, 0)
    for seed, (t, c, e, f) in enumerate([(3, 2, 2, 3), (7, 4, 5, 2), (1, 3, 4, 6)]):
        yield of(t, c, e, f, 1, 1 + seed)


def several() -> Iterator[Inputs]:
    for seed, shape in enumerate(SHAPES * 2):
        yield of(*shape, 10 + seed)


exercise = Exercise(
    "experts.mix_experts",
    "Route tokens to experts and mix the answers",
    properties=(
        Equals(
            "sends each token to its best expert",
            one_expert,
            "With k = 1 the share is 1: y is down[e] · relu(up[e] · x) of the expert with the "
            "largest router score.",
            ulps=64,
        ),
        Equals(
            "mixes k experts",
            several,
            "The shares are the softmax over the scores of the k chosen experts; they sum to 1.",
            ulps=64,
        ),
        Gradient(
            "has the right gradient, the router's too",
            several,
            "The router learns through the shares only: they must not be cut off.",
            ulps=256,
        ),
    ),
    hints=(
        "One token first: `router @ x` are E scores. Which k are the largest? `.topk(k)` gives "
        "values and places.",
        "The shares of the chosen ones: the softmax of the k largest scores.",
        "A loop over the experts: `rows, slots = (chosen == e).nonzero(as_tuple=True)` are the "
        "tokens that chose e, and as their how manieth. Add share times answer to `y` at these "
        "rows with `y.index_add(0, rows, …)`.",
    ),
)


@exercise.stub
def mix_experts(x: Tensor, router: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    """Each token's k best experts, mixed by the softmax of their k scores.

    x: (T, C); router: (E, C), the scores of a token are router · x; expert e is the network
    down[e] · relu(up[e] · x) with up: (E, F, C), down: (E, C, F). Returns (T, C).
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(x: Tensor, router: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    best, chosen = (x @ router.T).topk(k, dim=-1)  # (T, k) each
    shares = best.softmax(dim=-1)
    y = torch.zeros_like(x)
    for e in range(len(router)):
        rows, slots = (chosen == e).nonzero(as_tuple=True)
        answers = (x[rows] @ up[e].T).relu() @ down[e].T  # (rows, C)
        y = y.index_add(0, rows, answers * shares[rows, slots, None])
    return y


@exercise.reference
def one_token_at_a_time(x: Tensor, router: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    x, router, up, down = x.double(), router.double(), up.double(), down.double()
    rows = []
    for token in x:
        scores = router @ token
        values = scores.tolist()
        order = sorted(range(len(router)), key=lambda e: -values[e])[:k]
        powers = torch.stack([(scores[e] - scores.max()).exp() for e in order])
        answers = torch.stack([down[e] @ (up[e] @ token).clamp(min=0) for e in order])
        rows.append((powers / powers.sum()) @ answers)
    return torch.stack(rows)


@exercise.mistake(
    "The softmax runs over all experts, and the shares of the chosen ones do not sum to 1."
)
def softmax_over_all(x: Tensor, router: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    shares, chosen = (x @ router.T).softmax(dim=-1).topk(k, dim=-1)
    return _mixed(x, up, down, shares, chosen)


@exercise.mistake("The softmax was taken twice: of probabilities instead of scores.")
def softmax_twice(x: Tensor, router: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    best, chosen = (x @ router.T).softmax(dim=-1).topk(k, dim=-1)
    return _mixed(x, up, down, best.softmax(dim=-1), chosen)


@exercise.mistake("All k experts count alike: each has to be weighted with its own share.")
def plain_mean(x: Tensor, router: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    best, chosen = (x @ router.T).topk(k, dim=-1)
    return _mixed(x, up, down, torch.full_like(best, 1 / k), chosen)


@exercise.mistake("The experts with the smallest scores were chosen.")
def the_worst(x: Tensor, router: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    best, chosen = (x @ router.T).topk(k, dim=-1, largest=False)
    return _mixed(x, up, down, best.softmax(dim=-1), chosen)


@exercise.mistake("Only the first of the k experts is asked.")
def only_the_first(x: Tensor, router: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    best, chosen = (x @ router.T).topk(k, dim=-1)
    return _mixed(x, up, down, best.softmax(dim=-1)[:, :1], chosen[:, :1])


@exercise.mistake("The shares are cut off (`.detach()`): the router would never learn.")
def router_cut_off(x: Tensor, router: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    best, chosen = (x @ router.T).topk(k, dim=-1)
    return _mixed(x, up, down, best.softmax(dim=-1).detach(), chosen)


@exercise.mistake("The relu between the two matrices of an expert is missing.")
def without_relu(x: Tensor, router: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    best, chosen = (x @ router.T).topk(k, dim=-1)
    linear = torch.einsum("tkfc,tc->tkf", up[chosen], x)
    return torch.einsum("tkcf,tkf,tk->tc", down[chosen], linear, best.softmax(dim=-1))


def _mixed(x: Tensor, up: Tensor, down: Tensor, shares: Tensor, chosen: Tensor) -> Tensor:
    """Every token's experts, gathered; for the mistakes, which are all in the routing."""
    inner = torch.einsum("tkfc,tc->tkf", up[chosen], x).relu()
    return torch.einsum("tkcf,tkf,tk->tc", down[chosen], inner, shares)
