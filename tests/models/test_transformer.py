import pytest
import torch
import torch.nn.functional as F
from tiny_hf import assert_close, ragged
from torch_transformer import CONFIGS, VOCAB, pair

from minift.errors import InputError
from minift.generation.cache import KVCache
from minift.layers.attention import use_backend
from minift.models.transformer import Transformer, TransformerConfig

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")
LENGTHS = (([7, 12, 1], [5, 2, 9]), ([5], [1]), ([3, 3], [8, 6]))
BACKENDS = ("torch", "eager")


def batch(sources, targets, side="right", seed=0):
    """Source, its mask, decoder input, its mask (padded on the right), labels."""
    ids, mask = ragged(sources, side, seed=seed)
    target, target_mask = ragged(targets, seed=seed + 1)
    labels = target.roll(-1, 1).masked_fill((target_mask == 0) | (target % 7 == 0), -100)
    return ids, mask, target, target_mask, labels


def both(ours, theirs, sources, targets, side="right", seed=0):
    ids, mask, target, target_mask, labels = batch(sources, targets, side, seed)
    options = {"decoder_input_ids": target, "decoder_attention_mask": target_mask}
    mine = ours(ids, mask, labels, **options)
    return mine, theirs.logits_and_loss(ids, mask, target, target_mask, labels), target_mask


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_loss_and_every_gradient(name, backend, side):
    ours, theirs = pair(name)
    for seed, (sources, targets) in enumerate(LENGTHS):
        ours.zero_grad()
        theirs.zero_grad()
        with use_backend(backend):
            mine, (logits, loss), real = both(ours, theirs, sources, targets, side, seed)
        # measured: logits 0, loss 5e-7, gradients 2e-7, since theirs glues q, k and v into one
        # product; PyTorch's own fp32 and fp64 differ by 1e-6, 8e-7 and 2e-7
        assert_close(mine.logits[real != 0], logits[real != 0], "logits")
        assert_close(mine.loss, loss, "loss")
        mine.loss.backward()
        loss.backward()
        wanted = theirs.named(lambda p: p.grad)
        assert sorted(wanted) == sorted(name for name, _ in ours.named_parameters())
        for path, parameter in ours.named_parameters():
            assert_close(parameter.grad, wanted[path], path)


@pytest.mark.parametrize("name", ["plain", "gelu-final-norm"])
def test_ten_steps_with_dropout_from_the_same_seed(name):
    ours, theirs = (model.train() for model in pair(name, dropout=0.1))
    losses = []
    for model in (ours, theirs):
        torch.manual_seed(1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4, weight_decay=0.1)
        for step in range(10):
            ids, mask, target, target_mask, labels = batch([9, 4, 11], [5, 7, 3], seed=step)
            if model is ours:
                options = {"decoder_input_ids": target, "decoder_attention_mask": target_mask}
                loss = model(ids, mask, labels, **options).loss
            else:
                loss = model.logits_and_loss(ids, mask, target, target_mask, labels)[1]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    # other dropout masks would move the first loss by about 0.1
    assert_close(torch.stack(losses[:10]), torch.stack(losses[10:]), "losses")
    wanted = theirs.named(lambda p: p.detach())
    for path, parameter in ours.named_parameters():
        assert float((parameter - wanted[path]).detach().abs().max()) <= 2e-6, path


def test_each_dropout_has_its_place():
    changes = {}
    for kind in ("dropout", "attention_dropout", "activation_dropout"):
        sizes = {"vocab_size": VOCAB, "d_model": 24, "nhead": 4, "dim_feedforward": 40}
        torch.manual_seed(0)
        model = Transformer(TransformerConfig(**sizes, **{"dropout": 0.0, kind: 0.3})).train()
        ids = ragged([6, 6])[0]
        first, second = (model(ids, decoder_input_ids=ids).logits for _ in range(2))
        changes[kind] = not torch.equal(first, second)
        again = model.eval()(ids, decoder_input_ids=ids).logits
        assert torch.equal(again, model(ids, decoder_input_ids=ids).logits)
    assert changes == dict.fromkeys(changes, True)


def test_in_double_precision():
    ours, theirs = (model.double() for model in pair("gelu-final-norm"))
    mine, (logits, _), real = both(ours, theirs, [7, 12, 1], [5, 2, 9])
    # positions are rounded to fp32 in ours: 3e-8
    assert mine.logits.dtype == torch.float64
    assert float((mine.logits - logits)[real != 0].detach().abs().max()) < 1e-6


def test_default_target_is_the_labels_one_place_to_the_right():
    ours, _ = pair()
    ids, mask = ragged([7, 12])
    labels = torch.tensor([[4, 9, 2, -100], [5, 2, -100, -100]])
    target = torch.tensor([[1, 4, 9, 2], [1, 5, 2, 0]])
    assert torch.equal(ours.shifted(labels), target)
    mine = ours(ids, mask, labels)
    given = ours(ids, mask, labels, decoder_input_ids=target)
    assert torch.equal(mine.logits, given.logits) and torch.equal(mine.loss, given.loss)
    plain = F.cross_entropy(mine.logits.mT, labels, label_smoothing=0.1)
    assert_close(mine.loss, plain, "loss")


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_pair_is_as_alone(side):
    ours, _ = pair()
    ids, mask = ragged([7, 12, 1], side)
    target, target_mask = ragged([4, 6, 2], side, seed=1)
    options = {"decoder_input_ids": target, "decoder_attention_mask": target_mask}
    together = ours(ids, mask, **options).logits
    for row in range(3):
        one, other = ids[row][mask[row] != 0][None], target[row][target_mask[row] != 0][None]
        alone = ours(one, decoder_input_ids=other).logits[0]
        assert_close(together[row][target_mask[row] != 0], alone, f"row {row}")


def test_the_decoder_sees_neither_the_future_nor_padding():
    ours, _ = pair()
    ids, mask = ragged([7, 12])
    target = ragged([6, 6], seed=1)[0]
    first = ours(ids, mask, decoder_input_ids=target).logits
    later = target.clone()
    later[:, 4] = (later[:, 4] + 1) % VOCAB
    other = ids.where(mask != 0, (ids + 1) % VOCAB)
    second = ours(other, mask, decoder_input_ids=later).logits
    assert torch.equal(first[:, :4], second[:, :4])
    assert not torch.equal(first[:, 4:], second[:, 4:])


@pytest.mark.parametrize("cuts", [(1, 1, 1, 1), (3, 1, 2), (6,)])
@pytest.mark.parametrize("capacity", [None, 10])
@pytest.mark.parametrize("name", ["plain", "uneven-stacks"])
def test_with_a_cache_as_without(name, cuts, capacity):
    ours, _ = pair(name)
    ids, mask = ragged([7, 12, 3], "left")
    target, target_mask = ragged([6, 3, 5], "left", seed=1)
    target, target_mask = target[:, : sum(cuts)], target_mask[:, : sum(cuts)]
    options = {"decoder_attention_mask": target_mask}
    with torch.no_grad():
        whole = ours(ids, mask, decoder_input_ids=target, **options).logits
        encoded, cache, parts, seen = ours.encode(ids, mask), KVCache(capacity), [], 0
        for cut in cuts:
            options["decoder_attention_mask"] = target_mask[:, : seen + cut]
            new = target[:, seen : seen + cut]
            options |= {"decoder_input_ids": new, "encoder_output": encoded}
            parts.append(ours(ids, mask, cache=cache, **options).logits)
            seen += cut
            assert cache.length == seen
    real = target_mask != 0
    assert_close(torch.cat(parts, dim=1)[real], whole[real], "logits")


def test_greedy_targets_with_and_without_a_cache():
    ours, theirs = pair("plain", seed=3)
    with torch.no_grad():
        theirs.token.weight[2] = ours.token.weight[2] = 2 * ours.token.weight[7]  # ends some early
    ids, mask = ragged([7, 12, 3, 5, 9], seed=2)
    ours.train()
    got = ours.generate(ids, mask, max_new_tokens=9)
    assert ours.training
    assert torch.equal(got, ours.generate(ids, mask, max_new_tokens=9, use_cache=False))
    ours.eval()
    for row, tokens in enumerate(got.tolist()):  # token by token with PyTorch's own model
        wanted, source = [1], ids[row][mask[row] != 0][None]
        while len(wanted) < got.shape[1] and wanted[-1] != 2:
            target = torch.tensor([wanted])
            last = theirs(source, torch.ones_like(source), target, torch.ones_like(target))[0, -1]
            wanted.append(int((theirs.token.weight @ last).argmax()))
        assert tokens == wanted + [0] * (len(tokens) - len(wanted))
    lengths = (got != 0).sum(-1)
    assert len(lengths.unique()) > 1  # some have ended, others go on


def test_beams_are_the_most_probable_targets_with_and_without_a_cache():
    ours, _ = pair("plain", seed=3)
    ids, mask = ragged([7, 12, 3], seed=2)
    options = {"max_new_tokens": 2, "eos_token_id": []}
    got = ours.generate(ids, mask, num_beams=VOCAB, **options)  # wide enough to see every target
    again = ours.generate(ids, mask, num_beams=VOCAB, use_cache=False, **options)
    assert torch.equal(got, again)
    first = torch.cartesian_prod(torch.tensor([1]), torch.arange(VOCAB))  # (V, 2)
    for row in range(3):
        source = ids[row][mask[row] != 0].expand(VOCAB, -1)
        scores = ours(source, decoder_input_ids=first).logits.log_softmax(-1)  # (V, 2, V)
        total = scores[0, 0, :, None] + scores[:, 1]
        assert got[row, 1:].tolist() == [int(i) for i in divmod(int(total.argmax()), VOCAB)]


def test_with_a_cache_the_source_is_read_once():
    ours, _ = pair()
    ids, mask = ragged([7, 12, 3])
    calls = []
    for layer in ours.decoder:
        layer.cross_attention.key.register_forward_hook(lambda *_: calls.append(1))
    for use_cache, times in ((True, 1), (False, 6)):
        calls.clear()
        ours.generate(ids, mask, max_new_tokens=6, eos_token_id=[], use_cache=use_cache)
        assert len(calls) == times * len(ours.decoder)


def test_attention_maps():
    ours, _ = pair("uneven-stacks")
    ids, mask = ragged([7, 4])
    target = ragged([5, 5], seed=1)[0]
    output = ours(ids, mask, decoder_input_ids=target, output_attentions=True)
    assert [len(m) for m in (output.encoder_attentions, output.attentions)] == [3, 1]
    cross = output.cross_attentions[0]
    assert cross.shape == (2, 4, 5, 7)
    assert torch.allclose(cross.sum(-1), torch.ones(2, 4, 5), rtol=0, atol=1e-6)
    assert not cross[1, :, :, 4:].any()
    assert not output.attentions[0].triu(1).any()
    plain = ours(ids, mask, decoder_input_ids=target)
    assert_close(output.logits, plain.logits)
    assert plain.cross_attentions is plain.attentions is plain.encoder_attentions is None
    wanted = torch.nn.MultiheadAttention(24, 4, batch_first=True)  # its own maps, layer 1
    first = ours.encoder[0].attention
    weights = [getattr(first, part) for part in ("query", "key", "value")]
    wanted.load_state_dict(
        {
            "in_proj_weight": torch.cat([part.weight for part in weights]),
            "in_proj_bias": torch.cat([part.bias for part in weights]),
            "out_proj.weight": first.output.weight,
            "out_proj.bias": first.output.bias,
        }
    )
    x = ours._embed(ids, None, 0)
    maps = wanted(x, x, x, mask == 0, average_attn_weights=False)[1]
    assert_close(output.encoder_attentions[0], maps, "attention probabilities")


def test_random_start():
    config = TransformerConfig(vocab_size=900, d_model=64, nhead=2, dim_feedforward=256)
    model = Transformer(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert bool((parameter == 1).all()), name
        else:
            rows, columns = parameter.shape
            glorot = (2 / (rows + columns)) ** 0.5
            expected = 64**-0.5 if name == "token.weight" else glorot
            assert float(parameter.detach().std()) == pytest.approx(expected, rel=0.05), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nhead": 5}, "config: d_model=512 is not a multiple of nhead=5"),
        (
            {"d_model": 15, "nhead": 3},
            "config: d_model=15 is not a multiple of pairs of a sine and a cosine=2",
        ),
        ({"dim_feedforward": 0}, "config: dim_feedforward=0; right: at least 1"),
        (
            {"label_smoothing": 1.0},
            "config: label_smoothing=1.0; right: at least 0 and below 1",
        ),
        (
            {"eos_token_id": 37000},
            "config: eos_token_id=37000; right: from 0 to 36999, below vocab_size",
        ),
    ],
)
def test_config_refuses(options, message):
    with pytest.raises(InputError) as caught:
        TransformerConfig(**options)
    assert str(caught.value) == message


def test_wrong_inputs_are_named():
    ours, _ = pair()
    ids, mask = ragged([7, 4])
    target = ragged([5, 5])[0]
    wrong = [
        (
            {"decoder_input_ids": None},
            "decoder_input_ids: None; right: a target, here or in labels",
        ),
        (
            {"decoder_input_ids": target * 0 + 53},
            "decoder_input_ids: id 53 is outside 0…52 (vocab_size 53)",
        ),
        (
            {"decoder_attention_mask": mask},
            "decoder_attention_mask: shape (2, 7); right: (2, 5), one entry for each token "
            "(cached ones included)",
        ),
        ({"labels": target[:, 1:]}, "labels: shape (2, 4); right: (2, 5)"),
        (
            {"attention_mask": mask[:, 1:]},
            "attention_mask: shape (2, 6); right: (2, 7), one entry for each token "
            "(cached ones included)",
        ),
    ]
    wrong.append(
        ({"input_ids": None}, "input_ids: None; right: a source, here or in encoder_output")
    )
    for change, message in wrong:
        with pytest.raises(InputError) as caught:
            ours(**{"input_ids": ids, "decoder_input_ids": target, **change})
        assert str(caught.value) == message
