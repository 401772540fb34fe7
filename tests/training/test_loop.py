"""The loop against a loop written out by hand, Hugging Face's optimiser parts, and itself."""

import copy
import math

import pytest
import torch
from torch import nn
from transformers import Trainer, get_linear_schedule_with_warmup

from minift.errors import InputError
from minift.training import TrainConfig, train
from minift.training.loop import Evaluation, Step
from minift.training.optim import adamw, decay_groups, linear_schedule, noam_schedule


class Output:
    def __init__(self, loss):
        self.loss = loss


class Classifier(nn.Module):
    """Embedding, norm, dropout, linear: every kind of parameter that the loop treats apart."""

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(7)
        self.embedding = nn.Embedding(11, 6)
        self.norm = nn.LayerNorm(6)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(6, 3)

    def forward(self, input_ids, labels):
        logits = self.head(self.dropout(self.norm(self.embedding(input_ids))))
        return Output(nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))


def make_batches(count, seed=0, rows=4, ignored=0.3):
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for i in range(count):
        ids = torch.randint(11, (rows, 3 + i % 4), generator=generator)
        labels = ids % 3
        labels[torch.rand(ids.shape, generator=generator) < ignored] = -100
        batches.append({"input_ids": ids, "labels": labels})
    return batches


def by_hand(model, batches, config, epochs):
    """The same run in the plainest PyTorch: no accumulation, Hugging Face's schedule."""
    decay = [p for n, p in model.named_parameters() if p.ndim > 1]
    rest = [p for n, p in model.named_parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": rest}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=0.0)
    total = len(batches) * epochs
    warmup = math.ceil(total * config.warmup_ratio)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, total)
    torch.manual_seed(config.seed)
    losses = []
    for _ in range(epochs):
        for batch in batches:
            loss = model(**batch).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return losses


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_equals_a_plain_loop(dropout):
    config = TrainConfig(epochs=3, learning_rate=0.02, weight_decay=0.3, warmup_ratio=0.2, seed=5)
    batches = make_batches(7)
    ours, theirs = Classifier(dropout), Classifier(dropout)
    history = train(ours, lambda epoch: batches, config)
    expected = by_hand(theirs, batches, config, 3)
    # fused AdamW against the for-loop: at most 1 ulp a step, 21 steps of a loss near 1
    assert max(abs(a - b) for a, b in zip(history.losses, expected, strict=True)) < 2e-6
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


def test_it_learns():
    config = TrainConfig(epochs=30, learning_rate=0.05)
    history = train(Classifier(), lambda epoch: make_batches(7), config)
    assert history.losses[-1] < 0.1 * history.losses[0]


def test_accumulation_gives_the_large_batch_gradient():
    """Four uneven batches equal one batch of all rows, though labels are spread unevenly."""
    small = [b for seed, ignored in ((0, 0.1), (1, 0.9), (2, 0.5), (3, 0.3))
             for b in make_batches(1, seed, ignored=ignored)]  # fmt: skip
    large = {k: torch.cat([b[k] for b in small]) for k in small[0]}
    models = Classifier(), Classifier()
    config = TrainConfig(epochs=1, accumulation_steps=4, learning_rate=0.1, warmup_ratio=0)
    a = train(models[0], lambda epoch: small, config)
    b = train(models[1], lambda epoch: [large], config)
    assert len(a.steps) == 1
    assert a.losses == pytest.approx(b.losses, rel=1e-6)
    assert a.steps[0].grad_norm == pytest.approx(b.steps[0].grad_norm, rel=1e-5)


def test_a_last_group_that_is_smaller_still_counts():
    history = train(
        Classifier(), lambda e: make_batches(5), TrainConfig(epochs=2, accumulation_steps=2)
    )
    assert len(history.steps) == 6


def test_a_batch_without_labels_changes_nothing():
    batch = make_batches(1)[0]
    empty = {"input_ids": batch["input_ids"], "labels": torch.full_like(batch["labels"], -100)}
    config = TrainConfig(epochs=1, accumulation_steps=2)
    with_empty = train(Classifier(), lambda e: [batch, empty], config)
    assert with_empty.losses == train(Classifier(), lambda e: [batch], config).losses


def test_reproducible_to_the_bit_and_dependent_on_the_seed():
    def run(seed):
        model = Classifier(dropout=0.3)
        history = train(model, lambda e: make_batches(6, e), TrainConfig(epochs=3, seed=seed))
        return history, model.state_dict()

    (first, weights), (second, again), (other, _) = run(1), run(1), run(2)
    assert first == second
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert first.losses != other.losses


def test_ends_with_the_weights_of_the_best_epoch_and_stops_early():
    scores = iter([0.2, 0.6, 0.5, 0.6, 0.9])
    model, kept = Classifier(), []

    def evaluate():
        assert not model.training
        kept.append(copy.deepcopy(model.state_dict()))
        return next(scores)

    config = TrainConfig(epochs=5, patience=2, learning_rate=0.05)
    history = train(model, lambda e: make_batches(3), config, evaluate=evaluate)
    assert history.stopped_early
    assert [e.score for e in history.evaluations] == [0.2, 0.6, 0.5, 0.6]
    assert history.best == Evaluation(6, 2, 0.6)
    assert all(torch.equal(model.state_dict()[n], kept[1][n]) for n in kept[1])
    assert not torch.equal(kept[1]["head.weight"], kept[3]["head.weight"])


def test_observer_sees_every_record_in_order():
    seen = []
    history = train(
        Classifier(), lambda e: make_batches(2), TrainConfig(epochs=2),
        evaluate=lambda: 1.0, observe=lambda record, total: seen.append((record, total)),
    )  # fmt: skip
    assert [type(r) for r, _ in seen] == [Step, Step, Evaluation] * 2
    assert {total for _, total in seen} == {4}
    assert [r for r, _ in seen if isinstance(r, Step)] == history.steps


def test_clipping_and_reported_norm():
    batches = make_batches(1)
    reference = Classifier()
    reference(**batches[0]).loss.backward()
    norm = torch.cat([p.grad.flatten() for p in reference.parameters()]).norm().item()
    step = train(Classifier(), lambda e: batches, TrainConfig(epochs=1, max_grad_norm=0)).steps[0]
    assert step.grad_norm == pytest.approx(norm, rel=1e-6)
    scaled = Classifier()
    config = TrainConfig(epochs=1, max_grad_norm=norm / 10)
    optimizer = torch.optim.SGD(scaled.parameters(), lr=1.0)
    from minift.training.loop import update

    before = [p.detach().clone() for p in scaled.parameters()]
    schedule = linear_schedule(optimizer, warmup_steps=0, total_steps=9)
    update(scaled, batches, optimizer, schedule, config, 1)
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, scaled.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(norm / 10, rel=1e-4)


@pytest.mark.parametrize(("warmup", "total"), [(0, 5), (1, 5), (3, 10), (5, 5), (10, 100)])
def test_schedule_equals_transformers(warmup, total):
    def rates(make):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
        schedule = make(optimizer)
        found = []
        for _ in range(total + 2):
            found.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        return found

    ours = rates(lambda o: linear_schedule(o, warmup_steps=warmup, total_steps=total))
    assert ours == rates(lambda o: get_linear_schedule_with_warmup(o, warmup, total))


def test_decay_groups_are_those_of_transformers_trainer():
    from transformers import BertConfig, BertForTokenClassification

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=9, vocab_size=20)  # fmt: skip
    model = BertForTokenClassification(config)
    names = {id(p): n for n, p in model.named_parameters()}
    decayed = {names[id(p)] for p in decay_groups(model, 0.1)[0]["params"]}
    assert decayed == set(Trainer.get_decay_parameter_names(None, model))
    model.classifier.weight.requires_grad_(False)
    frozen = [p for g in decay_groups(model, 0.1) for p in g["params"]]
    assert id(model.classifier.weight) not in {id(p) for p in frozen}
    assert adamw(model, TrainConfig()).param_groups[1]["weight_decay"] == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size: given 0; right would be 1 or more"),
        ({"epochs": -1}, "epochs: given -1; right would be 1 or more"),
        ({"accumulation_steps": 0}, "accumulation_steps: given 0"),
        ({"learning_rate": 0.0}, "learning_rate: given 0.0; right would be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate: given nan"),
        ({"dropout": 1.0}, "dropout: given 1.0; right would be from 0 to 0.999"),
        ({"warmup_ratio": 1.5}, "warmup_ratio: given 1.5; right would be from 0 to 1"),
        ({"patience": 0}, "patience: given 0"),
        ({"seed": -1}, "seed: given -1"),
        ({"weight_decay": float("nan")}, "weight_decay: given nan"),
        ({"epochs": None}, "epochs: given None; right would be a whole number"),
        ({"batch_size": 2.5}, "batch_size: given 2.5; right would be a whole number"),
        ({"dropout": "a"}, "dropout: given 'a'; right would be a number"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(InputError) as error:
        TrainConfig(**settings)
    assert message in str(error.value)


def test_a_loss_that_is_not_finite_stops_the_run():
    batches = make_batches(2)
    with pytest.raises(InputError, match="at step 2 the loss is nan"):
        model = Classifier()

        def poison(record, total):
            if isinstance(record, Step):
                model.head.weight.data.fill_(float("nan"))

        train(model, lambda e: batches, TrainConfig(), observe=poison)
    with pytest.raises(InputError, match="there is none"):
        train(Classifier(), lambda e: [], TrainConfig())


@pytest.mark.parametrize(("width", "warmup"), [(512, 4000), (16, 3), (64, 1)])
def test_noam_schedule_is_the_paper_s_formula(width, warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule, found = noam_schedule(optimizer, d_model=width, warmup_steps=warmup), []
    for _ in range(3 * warmup + 5):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    for step, rate in enumerate(found, start=1):
        rising, falling = step / warmup / warmup**0.5, 1 / step**0.5
        right = 2.0 * (rising if step < warmup else falling) / width**0.5
        assert rate == pytest.approx(right, rel=1e-12)
    assert found.index(max(found)) == warmup - 1
