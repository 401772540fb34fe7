import pytest
import torch
import torch.nn.functional as F
from tiny_hf import assert_close
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from minift.errors import InputError
from minift.models.baselines import (
    LSTM,
    CausalConv,
    CNNLanguageModel,
    LSTMClassifier,
    LSTMLanguageModel,
    TextCNN,
    max_over_time,
)
from minift.models.torch_weights import from_torch_lstm

SIZES = [(5, 7, 1, False), (5, 7, 1, True), (3, 4, 3, False), (6, 2, 2, True), (1, 1, 1, False)]
LENGTHS = ([6, 3, 1], [4], [2, 2, 2], [1, 9])


def lstms(inputs, hidden, layers, both, seed=0):
    """PyTorch's LSTM and ours, with the same weights."""
    torch.manual_seed(seed)
    theirs = nn.LSTM(inputs, hidden, layers, batch_first=True, bidirectional=both)
    ours = LSTM(inputs, hidden, layers, bidirectional=both)
    ours.load_state_dict(from_torch_lstm(theirs.state_dict()))
    return ours, theirs


def run_both(ours, theirs, lengths, start, dtype=torch.float32):
    """Outputs, last states and leaf inputs of both; padding holds numbers that must not matter."""
    inputs, directions = theirs.input_size, 2 if theirs.bidirectional else 1
    count = theirs.num_layers * directions
    x = torch.randn(len(lengths), max(lengths), inputs, dtype=dtype)
    state = [torch.randn(count, len(lengths), theirs.hidden_size, dtype=dtype) for _ in range(2)]
    twins = [[t.clone().requires_grad_() for t in (x, *state)] for _ in range(2)]
    (x, h, c), (other, *other_state) = twins
    counts = torch.tensor(lengths)
    mine, ends = ours(x, counts, (h, c) if start else None)
    packed = pack_padded_sequence(other, counts, batch_first=True, enforce_sorted=False)
    wanted, their_ends = theirs(packed, tuple(other_state) if start else None)
    return (mine, *ends), (pad_packed_sequence(wanted, batch_first=True)[0], *their_ends), twins


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("start", [True, False])
def test_lstm_equals_pytorch_outputs_states_and_every_gradient(size, lengths, start):
    ours, theirs = lstms(*size)
    mine, wanted, twins = run_both(ours, theirs, lengths, start)
    # measured: outputs 2e-8, states 3e-8, gradients 2e-7; their own fp32 and fp64 differ by
    # 5e-8, 1e-7 and 4e-7
    for a, b, what in zip(mine, wanted, ("output", "h", "c"), strict=True):
        assert_close(a, b, what)
    for results in (mine, wanted):
        sum((part * part.sin()).sum() for part in results).backward()
    for a, b, what in zip(*twins, ("x", "h", "c"), strict=True):
        if start or what == "x":
            assert_close(a.grad, b.grad, f"gradient of {what}")
    gradients = from_torch_lstm({name: p.grad for name, p in theirs.named_parameters()})
    assert sorted(gradients) == sorted(name for name, _ in ours.named_parameters())
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, gradients[name], name)


def test_lstm_in_double_precision():
    ours, theirs = (model.double() for model in lstms(5, 7, 2, True))
    mine, wanted, _ = run_both(ours, theirs, [6, 3, 1], True, torch.float64)
    for a, b in zip(mine, wanted, strict=True):
        assert a.dtype == torch.float64
        assert float((a - b).detach().abs().max()) < 1e-14


def test_lstm_trains_as_pytorch_s():
    ours, theirs = lstms(5, 7, 2, True)
    x, target = torch.randn(4, 6, 5), torch.randn(4, 6, 14)
    losses = []
    for model in (ours, theirs):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-4, weight_decay=0.1)
        for _ in range(10):
            loss = F.mse_loss(model(x)[0], target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    assert_close(torch.stack(losses[:10]), torch.stack(losses[10:]), "losses")
    weights = from_torch_lstm(dict(theirs.named_parameters()))
    for name, parameter in ours.named_parameters():
        assert_close(parameter, weights[name], name)


def test_lstm_drops_between_layers_only():
    torch.manual_seed(0)
    one, two = LSTM(3, 4, 1, dropout=0.5), LSTM(3, 4, 2, dropout=0.5)
    x = torch.randn(2, 5, 3)
    assert torch.equal(one(x)[0], one(x)[0])
    torch.manual_seed(1)
    got = two(x)[0]
    torch.manual_seed(1)
    zeros = torch.zeros(2, 4)
    inner, _ = two.layers[0][0](x, torch.ones(2, 5).bool(), (zeros, zeros))
    inner = F.dropout(inner, 0.5)
    assert torch.equal(got, two.layers[1][0](inner, torch.ones(2, 5).bool(), (zeros, zeros))[0])
    assert torch.equal(two.eval()(x)[0], two(x)[0])


def test_lstm_goes_on_where_it_stopped():
    ours, _ = lstms(5, 7, 2, False)
    x = torch.randn(3, 9, 5)
    whole, ends = ours(x)
    first, state = ours(x[:, :4])
    second, last = ours(x[:, 4:], None, state)
    assert_close(torch.cat([first, second], dim=1), whole)
    assert_close(torch.stack(last), torch.stack(ends))


def test_gates_are_those_that_make_the_state():
    ours, _ = lstms(5, 7, 1, False)
    direction, x = ours.layers[0][0], torch.randn(2, 5)
    h, c = torch.randn(2, 7), torch.randn(2, 7)
    new_h, new_c, gates = direction.cell(direction.input(x), h, c)
    write, keep, what, show = gates.unbind(1)
    assert_close(new_c, keep * c + write * what)
    assert_close(new_h, show * new_c.tanh())
    cell = nn.LSTMCell(5, 7)
    names = {"ih": direction.input, "hh": direction.hidden}
    for name, product in names.items():
        cell.load_state_dict(
            {f"weight_{name}": product.weight, f"bias_{name}": product.bias}, strict=False
        )
    assert_close(torch.stack([new_h, new_c]), torch.stack(cell(x, (h, c))))


@pytest.mark.parametrize(("inputs", "filters", "width"), [(4, 6, 3), (1, 1, 1), (5, 2, 4)])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_convolution_equals_pytorch(inputs, filters, width, length):
    torch.manual_seed(0)
    ours, theirs = CausalConv(inputs, filters, width), nn.Conv1d(inputs, filters, width)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, length, inputs, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    mine = ours(x)
    wanted = theirs(F.pad(twin.mT, (width - 1, 0))).mT
    assert_close(mine, wanted)
    lengths = torch.tensor([length, 1, (length + 1) // 2])
    pooled = max_over_time(mine, lengths)
    rows = [wanted[row, : int(n)].amax(0) for row, n in enumerate(lengths)]
    assert_close(pooled, torch.stack(rows), "max over time")
    (pooled.sin().sum() + mine.cos().sum()).backward()
    (torch.stack(rows).sin().sum() + wanted.cos().sum()).backward()
    assert_close(x.grad, twin.grad, "gradient of x")
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, theirs.get_parameter(name).grad, name)


MODELS = {
    "lstm": lambda: LSTMLanguageModel(19, 8, 2),
    "cnn": lambda: CNNLanguageModel(19, 8, 2, 3),
    "lstm-classes": lambda: LSTMClassifier(19, 8, 4),
    "cnn-classes": lambda: TextCNN(19, 8, 4, widths=(2, 3), filters=6),
}


def ids_and_mask(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 19, (len(lengths), max(lengths)), generator=generator)
    return ids, (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


@pytest.mark.parametrize("name", MODELS)
def test_models_do_not_see_padding(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    lengths = [7, 2, 4]
    ids, mask = ids_and_mask(lengths)
    together = model(ids, mask).logits
    other = model(ids.where(mask != 0, (ids + 1) % 19), mask).logits
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, :length]).logits[0]
        mine, again = together[row], other[row]
        if "classes" not in name:
            mine, again = mine[:length], again[:length]
        assert_close(mine, alone, f"row {row}")
        assert torch.equal(mine, again)


def test_lstm_classifier_reads_the_last_state_of_each_direction():
    torch.manual_seed(0)
    model = MODELS["lstm-classes"]()
    ids, mask = ids_and_mask([7, 2, 4])
    outputs, _ = model.lstm(model.token(ids), mask.sum(-1))  # (B, T, 2 · 8)
    ends = outputs[torch.arange(3), mask.sum(-1) - 1, :8], outputs[:, 0, 8:]
    assert_close(model(ids, mask).logits, model.classifier(torch.cat(ends, dim=-1)))


@pytest.mark.parametrize("name", ["lstm", "cnn"])
def test_language_models_see_the_past_only(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    ids = ids_and_mask([9, 9])[0]
    later = ids.clone()
    later[:, 5] = (later[:, 5] + 1) % 19
    first, second = model(ids).logits, model(later).logits
    moved = (first - second).abs().amax((0, 2)) > 0
    assert not moved[:5].any() and moved[5]
    assert moved[5:].sum() == (4 if name == "lstm" else min(4, MODELS["cnn"]().reach))
    assert MODELS["cnn"]().reach == 5
    first = ids.clone()
    first[:, 0] = (first[:, 0] + 1) % 19
    moved = (model(ids).logits - model(first).logits).abs().amax((0, 2)) > 0
    assert moved.tolist() == [True] * 9 if name == "lstm" else [True] * 5 + [False] * 4


@pytest.mark.parametrize("name", MODELS)
def test_models_learn_and_every_parameter_has_a_gradient(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    ids, mask = ids_and_mask([7, 3, 5, 6])
    labels = torch.arange(4) if "classes" in name else ids.masked_fill(mask == 0, -100)
    output = model(ids, mask, labels)
    if "classes" in name:
        wanted = F.cross_entropy(output.logits, labels)
    else:
        shifted = output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        wanted = F.cross_entropy(*shifted)
    assert_close(output.loss, wanted, "loss")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for step in range(30):
        optimizer.zero_grad()
        loss = model(ids, mask, labels).loss
        loss.backward()
        assert step or all(p.grad is not None and p.grad.any() for p in model.parameters())
        optimizer.step()
    assert float(loss.detach()) < 0.5 * float(output.loss.detach())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CausalConv(3, 3, 0), "width: 0; right: at least 1"),
        (
            lambda: LSTM(3, 3)(torch.zeros(2, 4, 3), torch.tensor([4, 5])),
            "lengths: [4, 5]; right: for each of 2 texts 1 to 4 tokens",
        ),
        (
            lambda: LSTM(3, 3)(torch.zeros(2, 4, 3), torch.tensor([0, 4])),
            "lengths: [0, 4]; right: for each of 2 texts 1 to 4 tokens",
        ),
        (
            lambda: MODELS["lstm"]()(torch.zeros(1, 3).long(), torch.tensor([[0, 1, 1]])),
            "attention_mask: padding on the left; right: pad on the right",
        ),
        (
            lambda: MODELS["cnn"]()(torch.full((1, 3), 19)),
            "input_ids: id 19 is outside 0…18 (vocab_size 19)",
        ),
        (
            lambda: MODELS["cnn-classes"]()(torch.zeros(1, 3).long(), None, torch.tensor([4])),
            "labels: 4 is outside 0…3; right: a class, or −100 to ignore",
        ),
        (
            lambda: from_torch_lstm(nn.LSTM(3, 3, proj_size=2).state_dict()),
            "tensors: weight_hr_l0 is not a weight of an LSTM; right: no projections",
        ),
    ],
)
def test_wrong_inputs_are_named(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message
