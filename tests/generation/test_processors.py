"""Each processed distribution against the processor of ``transformers``, bit for bit."""

import pytest
import torch
from transformers.generation import logits_process as theirs

from minift.generation import processors as ours
from minift.generation.settings import GenerationSettings

INF = float("inf")


def logits():
    """Random, tied, extreme and nearly empty rows of scores."""
    generator = torch.Generator().manual_seed(0)
    yield torch.randn(4, 37, generator=generator)
    yield torch.randn(3, 500, generator=generator) * 8
    yield torch.randint(-3, 4, (5, 60), generator=generator).float()  # ties everywhere
    yield torch.zeros(2, 11)
    yield torch.tensor([[1e30, 1e30, 0.0, -1e30], [3e38, -3e38, 3e38, 1.0], [80.0, 79, -90, -1e4]])
    yield torch.tensor([[-INF, 2.0, -INF, 2.0, 1.0], [-INF, -INF, -INF, -INF, -5.0]])
    yield torch.randn(1, 1, generator=generator)
    yield torch.randn(3, 25, generator=generator).double().log_softmax(-1).float()


CASES = list(enumerate(logits()))
every_case = pytest.mark.parametrize(
    "scores", [s for _, s in CASES], ids=[str(i) for i, _ in CASES]
)


def same(mine, other, scores):
    """Equal, and the input left as it was."""
    untouched = scores.clone()
    got, wanted = mine(scores), other(scores.clone())
    assert torch.equal(got, wanted)
    assert torch.equal(scores, untouched)
    kept = wanted.softmax(-1)
    assert torch.equal(got.softmax(-1).isnan(), kept.isnan())
    return got


@every_case
@pytest.mark.parametrize("t", [0.05, 0.7, 1.0, 1.5, 30.0])
def test_temperature(scores, t):
    warper = theirs.TemperatureLogitsWarper(t)
    same(lambda s: ours.temperature(s, t), lambda s: warper(None, s), scores)


@every_case
@pytest.mark.parametrize("k", [1, 2, 3, 5, 50, 1000])
def test_top_k(scores, k):
    warper = theirs.TopKLogitsWarper(k)
    got = same(lambda s: ours.top_k(s, k), lambda s: warper(None, s), scores)
    if scores.isfinite().all():
        assert bool(((got > -INF).sum(-1) >= min(k, scores.shape[-1])).all())


@every_case
@pytest.mark.parametrize("keep", [1, 2, 4])
@pytest.mark.parametrize("p", [1e-9, 0.1, 0.5, 0.9, 0.999])
def test_top_p(scores, p, keep):
    if keep > scores.shape[-1]:
        keep = scores.shape[-1]
    warper = theirs.TopPLogitsWarper(p, min_tokens_to_keep=keep)
    got = same(lambda s: ours.top_p(s, p, keep), lambda s: warper(None, s), scores)
    # what is left has at least p; without the least probable of them, less (ties aside)
    probabilities = scores.double().softmax(-1).masked_fill(got == -INF, 0.0)
    assert bool((probabilities.sum(-1) >= p - 1e-5).all())


@every_case
@pytest.mark.parametrize("keep", [1, 2, 4])
@pytest.mark.parametrize("p", [0.0, 0.01, 0.2, 0.99, 1.0])
def test_min_p(scores, p, keep):
    warper = theirs.MinPLogitsWarper(p, min_tokens_to_keep=keep)
    same(lambda s: ours.min_p(s, p, keep), lambda s: warper(None, s), scores)


@every_case
@pytest.mark.parametrize("penalty", [0.5, 0.9, 1.0, 1.3, 5.0])
@pytest.mark.parametrize("padded", [False, True])
def test_repetition_penalty(scores, penalty, padded):
    rows, vocabulary = scores.shape
    ids = torch.randint(0, vocabulary, (rows, 7), generator=torch.Generator().manual_seed(1))
    lengths = torch.arange(rows) % 4 if padded else torch.zeros(rows, dtype=torch.long)
    processor = theirs.RepetitionPenaltyLogitsProcessor(
        penalty, prompt_ignore_length=lengths if padded else None
    )
    padding = torch.arange(5)[None] < lengths[:, None] if padded else None  # two tokens are new
    same(
        lambda s: ours.repetition_penalty(ids, s, penalty, padding),
        lambda s: processor(ids, s),
        scores,
    )


@every_case
def test_forbidden_tokens(scores):
    eos = tuple({0, scores.shape[-1] - 1})
    for new in (1, 2, 3):
        ids = torch.zeros(len(scores), 4 + new, dtype=torch.long)
        processor = theirs.MinNewTokensLengthLogitsProcessor(4, 3, list(eos))
        settings = GenerationSettings(min_new_tokens=3, eos_token_id=eos)
        process = ours.processors_of(settings, 4)
        same(lambda s: process(ids, s), lambda s: processor(ids, s), scores)  # noqa: B023


ALL = {
    "repetition_penalty": 1.4,
    "min_new_tokens": 2,
    "temperature": 0.6,
    "top_k": 9,
    "top_p": 0.8,
    "min_p": 0.05,
}


def their_chain(options, prompt, eos, keep):
    """The processors one by one, in the order that ``generate`` uses."""
    makers = {
        "repetition_penalty": theirs.RepetitionPenaltyLogitsProcessor,
        "min_new_tokens": lambda n: theirs.MinNewTokensLengthLogitsProcessor(prompt, n, list(eos)),
        "temperature": theirs.TemperatureLogitsWarper,
        "top_k": lambda k: theirs.TopKLogitsWarper(k, min_tokens_to_keep=keep),
        "top_p": lambda p: theirs.TopPLogitsWarper(p, min_tokens_to_keep=keep),
        "min_p": lambda p: theirs.MinPLogitsWarper(p, min_tokens_to_keep=keep),
    }
    return theirs.LogitsProcessorList(
        makers[name](options[name]) for name in makers if name in options
    )


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("without", [None, *ALL])
def test_all_together_in_their_order(without, beams):
    generator = torch.Generator().manual_seed(2)
    eos = (3, 8)
    options = {name: value for name, value in ALL.items() if name != without}
    keep = 1 if beams == 1 else len(eos) + 1
    ids = torch.randint(0, 40, (6, 5), generator=generator)
    neutral = {"top_k": None} | options
    settings = GenerationSettings(do_sample=True, num_beams=beams, eos_token_id=eos, **neutral)
    process = ours.processors_of(settings, 4)
    logits = torch.randn(6, 40, generator=generator)
    for scores in (logits, logits.log_softmax(-1)):
        wanted = their_chain(options, 4, eos, keep)(ids, scores.clone())
        assert torch.equal(process(ids, scores), wanted)


def test_filters_are_for_sampling_only():
    scores = torch.randn(2, 30, generator=torch.Generator().manual_seed(3))
    settings = GenerationSettings(temperature=0.5, top_k=2, top_p=0.3, min_p=0.5)
    assert torch.equal(ours.processors_of(settings, 0)(torch.zeros(2, 1).long(), scores), scores)


def test_a_beam_keeps_something_beside_eos():
    scores = torch.tensor([[9.0, 8.0, 1.0, 0.0]])
    for eos, kept in (((0, 1), 3), ((0,), 2), ((), 2)):
        for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
            options = {"top_k": None} | narrow
            settings = GenerationSettings(do_sample=True, num_beams=2, eos_token_id=eos, **options)
            got = ours.to_draw_from(scores, settings)
            assert int((got > -INF).sum()) == kept
