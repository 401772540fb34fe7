import pytest
import torch
import transformers
from tiny_hf import (
    BERT_CLASSES,
    BERT_CONFIGS,
    assert_close,
    assert_gradients_close,
    assert_hidden_close,
    assert_same_weights,
    hf_bert,
    ragged,
)

import minift
from minift.errors import InputError
from minift.layers.attention import use_backend
from minift.models import bert
from minift.models.bert_heads import FAMILY

LENGTHS = ([7, 12, 1], [5], [32, 31], [3, 3, 3, 3])
IMPLEMENTATIONS = [("sdpa", "torch"), ("eager", "eager")]


def types_for(ids, model):
    return (ids + torch.arange(ids.shape[1])) % model.config.type_vocab_size


@pytest.mark.parametrize("name", BERT_CONFIGS)
@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
def test_encoder_outputs(name, impl, backend):
    theirs = hf_bert(name, impl=impl)
    ours = minift.from_hf(theirs)
    for seed, lengths in enumerate(LENGTHS):
        ids, mask = ragged(lengths, seed=seed)
        types = types_for(ids, theirs)
        with use_backend(backend), torch.no_grad():
            mine = ours(ids, mask, types, output_hidden_states=True)
            wanted = theirs(ids, mask, types, output_hidden_states=True)
        assert_hidden_close(mine.hidden_states, wanted.hidden_states, mask)
        assert_close(mine.last_hidden_state[mask != 0], wanted.last_hidden_state[mask != 0])
        assert_close(mine.pooler_output, wanted.pooler_output, "pooled")


@pytest.mark.parametrize("name", BERT_CONFIGS)
@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
def test_loss_and_every_gradient(name, impl, backend):
    theirs = hf_bert(name, "BertForTokenClassification", impl=impl)
    ours = minift.from_hf(theirs)
    ids, mask = ragged([9, 4, 17])
    labels = (ids % 5).masked_fill((mask == 0) | (ids % 7 == 0), -100)
    with use_backend(backend):
        mine = ours(ids, mask, types_for(ids, theirs), labels=labels)
    wanted = theirs(ids, mask, types_for(ids, theirs), labels=labels)
    assert_close(mine.logits[mask != 0], wanted.logits[mask != 0], "logits")
    assert_close(mine.loss, wanted.loss, "loss")
    mine.loss.backward()
    wanted.loss.backward()
    assert_gradients_close(ours, theirs)


@pytest.mark.parametrize("name", ["plain", "odd-sizes", "silu-pad-3"])
def test_pooler_gradients(name):
    theirs = hf_bert(name)
    ours = minift.from_hf(theirs)
    ids, mask = ragged([9, 4, 17])
    for model in (ours, theirs):
        output = model(ids, mask)
        (
            output.pooler_output.sin().sum() + output.last_hidden_state[mask != 0].cos().sum()
        ).backward()
    assert_gradients_close(ours, theirs)


@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
@pytest.mark.parametrize("name", ["plain", "silu-pad-3", "one-layer-one-head"])
def test_ten_steps_with_dropout_from_the_same_seed(name, impl, backend):
    theirs = hf_bert(name, "BertForTokenClassification", dropout=0.1, impl=impl).train()
    ours = minift.from_hf(theirs)
    assert ours.training

    def trained(model, backend):
        torch.manual_seed(1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
        losses = []
        for step in range(10):
            ids, mask = ragged([9, 4, 17], seed=step)
            labels = (ids % 5).masked_fill(mask == 0, -100)
            with use_backend(backend):
                loss = model(ids, mask, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    # other dropout masks would move the first loss by about 0.05; measured difference: 0.0
    assert_close(trained(ours, backend), trained(theirs, None), "losses")
    assert_same_weights(ours, theirs, tolerance=2e-6)


@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
def test_dropout_is_off_in_evaluation(impl, backend):
    theirs = hf_bert("plain", "BertForTokenClassification", dropout=0.3, impl=impl)
    ids, mask = ragged([7, 12, 1])
    with use_backend(backend):
        mine = minift.from_hf(theirs)(ids, mask).logits
    assert_close(mine[mask != 0], theirs(ids, mask).logits[mask != 0], "logits")


def test_attention_maps():
    theirs = hf_bert("odd-sizes", impl="eager")
    ours = minift.from_hf(theirs)
    ids, mask = ragged([7, 12, 1])
    mine = ours(ids, mask, output_attentions=True).attentions
    wanted = theirs(ids, mask, output_attentions=True).attentions
    assert len(mine) == len(wanted) == 2
    for ours_layer, theirs_layer in zip(mine, wanted, strict=True):
        assert_close(ours_layer, theirs_layer, "attention probabilities")
        assert float(ours_layer[0, :, :, 7:].max()) == 0.0  # padding gets no attention


def test_in_double_precision():
    theirs = hf_bert("deep").double()
    ours = minift.from_hf(theirs)
    ids, mask = ragged([7, 12, 1])
    mine, wanted = ours(ids, mask).last_hidden_state, theirs(ids, mask).last_hidden_state
    assert mine.dtype == torch.float64
    assert float((mine - wanted)[mask != 0].abs().max()) < 1e-12
    single = minift.from_hf(theirs).float()(ids, mask).last_hidden_state
    assert 1e-8 < float((single - wanted)[mask != 0].abs().max()) < 1e-5


def test_padding_is_never_seen():
    ours = minift.from_hf(hf_bert("plain"))
    ids, mask = ragged([7, 12, 1])
    other = ids.where(mask != 0, (ids + 1) % 53)
    mine, again = ours(ids, mask).last_hidden_state, ours(other, mask).last_hidden_state
    assert torch.equal(mine[mask != 0], again[mask != 0])
    alone = ours(ids[:1, :7]).last_hidden_state
    assert_close(mine[:1, :7], alone, "alone or in a batch")


@pytest.mark.parametrize("cls", BERT_CLASSES)
def test_random_start_is_that_of_transformers(cls):
    config = hf_bert(labels=7).config
    torch.manual_seed(3)
    theirs = getattr(transformers, cls)(config)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    ours = FAMILY.classes[cls](bert.BertConfig.from_dict(config.to_dict()))
    assert_same_weights(ours, theirs)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"position_embedding_type": "relative_key"},
            "config: position_embedding_type='relative_key' is not supported; "
            "right: 'absolute' or None",
        ),
        ({"is_decoder": True}, "config: is_decoder=True is not supported; right: False"),
        (
            {"add_cross_attention": True},
            "config: add_cross_attention=True is not supported; right: False",
        ),
        ({"hidden_size": "many"}, "config: hidden_size='many'; right: int"),
        ({"hidden_size": True}, "config: hidden_size=True; right: int"),
        ({"hidden_size": 0}, "config: hidden_size=0; right: at least 1"),
        (
            {"hidden_dropout_prob": 1.0},
            "config: hidden_dropout_prob=1.0; right: at least 0 and below 1",
        ),
        ({"initializer_range": -1.0}, "config: initializer_range=-1.0; right: at least 0"),
        ({"id2label": None, "num_labels": "2"}, "config: num_labels='2'; right: at least 1"),
        ({"pad_token_id": 1.5}, "config: pad_token_id=1.5; right: int or null"),
        ({"pad_token_id": 99}, "config: pad_token_id=99; right: below vocab_size 53, or null"),
        (
            {"num_attention_heads": 5},
            "config: hidden_size=24 is not a multiple of num_attention_heads=5",
        ),
        (
            {"id2label": {"0": "A", "2": "B"}},
            "id2label: {'0': 'A', '2': 'B'}; right: a name for each of the ids 0, 1, 2, …",
        ),
        (
            {"id2label": {"0": "A", "1": "A"}},
            "id2label: {'0': 'A', '1': 'A'} has a name twice; right: distinct names",
        ),
    ],
)
def test_config_refuses(options, message):
    data = {**hf_bert().config.to_dict(), **options}
    with pytest.raises(InputError) as caught:
        bert.BertConfig.from_dict(data)
    assert str(caught.value) == message


def test_config_refuses_an_unknown_activation_by_name():
    with pytest.raises(InputError, match=r"activation function: unknown 'gelo'; .*mean 'gelu'\?"):
        bert.BertConfig(hidden_act="gelo")


def test_wrong_inputs_are_named():
    ours = minift.from_hf(hf_bert("plain", "BertForTokenClassification"))
    ids, mask = ragged([7, 12, 1])
    labels = ids % 5
    wrong = [
        (
            {"input_ids": ragged([33])[0]},
            "input_ids: 33 tokens are more than the model's 32 positions; "
            "right: truncate, e.g. tokenizer(text, truncation=True)",
        ),
        (
            {"input_ids": ids.masked_fill(ids == ids[0, 0], 53)},
            "input_ids: id 53 is outside 0…52 (vocab_size 53)",
        ),
        (
            {"input_ids": ids.masked_fill(ids == ids[0, 0], -1)},
            "input_ids: id -1 is outside 0…52 (vocab_size 53)",
        ),
        ({"input_ids": ids.float()}, "input_ids: dtype torch.float32; right: torch.int64"),
        ({"input_ids": ids[0]}, "input_ids: shape (12,); right: (batch, tokens), not empty"),
        ({"input_ids": ids[:0]}, "input_ids: shape (0, 12); right: (batch, tokens), not empty"),
        (
            {"attention_mask": mask[:, 1:]},
            "attention_mask: shape (3, 11); right: (3, 12), one entry for each token "
            "(cached ones included)",
        ),
        (
            {"token_type_ids": ids * 0 + 2},
            "token_type_ids: id 2 is outside 0…1 (type_vocab_size 2)",
        ),
        (
            {"token_type_ids": ids[:, 1:] * 0},
            "token_type_ids: shape (3, 11); right: (3, 12), as input_ids",
        ),
        (
            {"labels": labels.masked_fill(labels == 4, 5)},
            "labels: 5 is outside 0…4; right: a class, or −100 to ignore",
        ),
        (
            {"labels": labels.masked_fill(labels == 4, -4)},
            "labels: -4 is outside 0…4; right: a class, or −100 to ignore",
        ),
        ({"labels": labels[:, 1:]}, "labels: shape (3, 11); right: (3, 12)"),
        ({"labels": labels.float()}, "labels: dtype torch.float32; right: torch.int64"),
    ]
    for change, message in wrong:
        with pytest.raises(InputError) as caught:
            ours(**{"input_ids": ids, **change})
        assert str(caught.value) == message
