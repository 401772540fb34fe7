import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny_hf import (
    VIT_CLASSES,
    VIT_CONFIGS,
    assert_close,
    assert_gradients_close,
    assert_same_weights,
    hf_vit,
    images,
)

import minift
from minift.errors import InputError
from minift.layers.attention import use_backend
from minift.models import vit

HEAD = "ViTForImageClassification"
IMPLEMENTATIONS = [("sdpa", "torch"), ("eager", "eager")]


@pytest.mark.parametrize("name", VIT_CONFIGS)
@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
def test_encoder_outputs_and_every_gradient(name, impl, backend):
    theirs = hf_vit(name, impl=impl)
    ours = minift.from_hf(theirs)
    pixels = images(theirs.config)
    outputs = []
    for model, kind in ((ours, backend), (theirs, None)):
        with use_backend(kind):
            output = model(pixels, output_hidden_states=True)
        outputs.append(output)
        (output.pooler_output.sin().sum() + output.last_hidden_state.cos().sum()).backward()
    mine, wanted = outputs
    assert_close(mine.last_hidden_state, wanted.last_hidden_state)
    assert_close(mine.pooler_output, wanted.pooler_output, "pooled")
    for layer, (a, b) in enumerate(zip(mine.hidden_states, wanted.hidden_states, strict=True)):
        assert_close(a, b, f"hidden states {layer}")
    assert_gradients_close(ours, theirs)


@pytest.mark.parametrize("name", VIT_CONFIGS)
@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
def test_logits_loss_and_every_gradient(name, impl, backend):
    theirs = hf_vit(name, HEAD, impl=impl)
    ours = minift.from_hf(theirs)
    for seed, count in enumerate((1, 4)):
        pixels, labels = images(theirs.config, count, seed), torch.arange(count) % 5
        ours.zero_grad()
        theirs.zero_grad()
        with use_backend(backend):
            mine = ours(pixels, labels)
        wanted = theirs(pixels, labels)
        assert_close(mine.logits, wanted.logits, "logits")
        assert_close(mine.loss, wanted.loss, "loss")
        mine.loss.backward()
        wanted.loss.backward()
        assert_gradients_close(ours, theirs)


@pytest.mark.parametrize(
    ("problem", "classes", "labels"),
    [
        ("regression", 1, torch.tensor([0.5, -2.0, 1.0])),
        ("regression", 2, torch.randn(3, 2, generator=torch.Generator().manual_seed(0))),
        ("multi_label_classification", 4, torch.eye(4)[:3]),
        (None, 1, torch.tensor([0.5, -2.0, 1.0])),
        (None, 4, torch.eye(4)[:3]),
        (None, 4, torch.tensor([3, 0, 1])),
    ],
)
def test_other_losses(problem, classes, labels):
    theirs = hf_vit("plain", HEAD, labels=classes)
    theirs.config.problem_type = problem
    ours, pixels = minift.from_hf(theirs), images(theirs.config)
    mine, wanted = ours(pixels, labels).loss, theirs(pixels, labels).loss
    assert_close(mine, wanted, "loss")
    mine.backward()
    wanted.backward()
    assert_gradients_close(ours, theirs)


@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
@pytest.mark.parametrize("name", ["plain", "oblong", "one-patch-no-bias"])
def test_ten_steps_with_dropout_from_the_same_seed(name, impl, backend):
    theirs = hf_vit(name, HEAD, dropout=0.1, impl=impl).train()
    ours = minift.from_hf(theirs)
    assert ours.training

    def trained(model, backend):
        torch.manual_seed(1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4, weight_decay=0.1)
        losses = []
        for step in range(10):
            with use_backend(backend):
                loss = model(images(theirs.config, 4, step), torch.arange(4)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    # other dropout masks would move the first loss by about 0.05; measured difference: 0.0
    assert_close(trained(ours, backend), trained(theirs, None), "losses")
    assert_same_weights(ours, theirs, tolerance=2e-6)
    pixels = images(theirs.config)
    assert_close(ours.eval()(pixels).logits, theirs.eval()(pixels).logits, "without dropout")


def test_attention_maps():
    theirs = hf_vit("oblong", impl="eager")
    pixels = images(theirs.config)
    mine = minift.from_hf(theirs)(pixels, output_attentions=True).attentions
    wanted = theirs(pixels, output_attentions=True).attentions
    assert len(mine) == len(wanted) == 2
    for ours_layer, theirs_layer in zip(mine, wanted, strict=True):
        assert ours_layer.shape == (3, 4, 16, 16)  # 5 · 3 patches and the class token
        assert_close(ours_layer, theirs_layer, "attention probabilities")


def test_in_double_precision():
    theirs = hf_vit("wide-pooler").double()
    ours, pixels = minift.from_hf(theirs), images(theirs.config)
    mine, wanted = ours(pixels).last_hidden_state, theirs(pixels).last_hidden_state
    assert mine.dtype == torch.float64
    assert float((mine - wanted).detach().abs().max()) < 1e-12


def test_a_patch_is_one_product_and_moving_patches_only_moves_positions():
    ours = minift.from_hf(hf_vit("oblong"))
    pixels = images(ours.config)
    cut = pixels.unfold(2, 2, 2).unfold(3, 5, 5)  # (B, R, 5, 3, 2, 5)
    flat = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)  # (B, 15, 10)
    patch, embeddings = ours.embeddings.patch, ours.embeddings
    tokens = flat @ patch.weight.flatten(1).T + patch.bias + embeddings.position[:, 1:]
    assert_close(embeddings(pixels)[:, 1:], tokens, "patches, row by row")
    first = embeddings.cls_token + embeddings.position[:, :1]
    assert_close(embeddings(pixels)[:, :1], first.expand(3, -1, -1), "class token")


@pytest.mark.parametrize("cls", VIT_CLASSES)
@pytest.mark.parametrize("name", VIT_CONFIGS)
def test_there_and_back(cls, name, tmp_path):
    original = hf_vit(name, cls)
    original.save_pretrained(tmp_path / "theirs")
    ours = minift.load(tmp_path / "theirs")
    assert type(ours).__name__ == cls and not ours.training
    assert_same_weights(ours, original)
    minift.save(ours, tmp_path / "ours", max_shard_bytes=9000)
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 1
    again, info = getattr(transformers, cls).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(info.values()), info
    pixels = images(original.config)
    mine, wanted = (next(iter(model(pixels).values())) for model in (again, original))
    assert_close(mine, wanted)
    assert_same_weights(minift.load(tmp_path / "ours"), original)
    assert_same_weights(ours, minift.to_hf(ours))


def test_the_saved_files_are_theirs(tmp_path):
    original = hf_vit("plain", HEAD)
    minift.save(minift.from_hf(original), tmp_path / "ours")
    original.save_pretrained(tmp_path / "theirs")
    names = [sorted(load_file(tmp_path / f / "model.safetensors")) for f in ("ours", "theirs")]
    assert names[0] == names[1]
    mine, wanted = (
        transformers.AutoConfig.from_pretrained(tmp_path / which).to_dict()
        for which in ("ours", "theirs")
    )
    mine.pop("_name_or_path"), wanted.pop("_name_or_path")
    assert mine == wanted


def test_a_head_on_an_encoder(tmp_path):
    hf_vit("plain").save_pretrained(tmp_path)
    torch.manual_seed(5)
    ours = minift.load(tmp_path, task="image-classification", id2label=["cat", "dog", "owl"])
    assert ours.classifier.weight.shape == (3, 24)
    torch.manual_seed(5)
    theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path, num_labels=3)
    assert_same_weights(ours, theirs)
    body = minift.load(tmp_path, task="encoder")
    assert body.pooler is not None
    without = transformers.ViTModel(hf_vit().config, add_pooling_layer=False)
    without.save_pretrained(tmp_path / "bare")
    assert minift.load(tmp_path / "bare").pooler is None


@pytest.mark.parametrize("cls", VIT_CLASSES)
def test_random_start_is_that_of_transformers(cls):
    config = hf_vit(labels=7).config
    torch.manual_seed(3)
    theirs = getattr(transformers, cls)(config)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    ours = getattr(vit, cls)(vit.ViTConfig.from_dict(config.to_dict()))
    assert_same_weights(ours, theirs)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"problem_type": "ranking"},
            "config: problem_type: unknown 'ranking'; known: regression, "
            "single_label_classification, multi_label_classification",
        ),
        ({"image_size": "big"}, "config: image_size='big'; right: int or list or tuple"),
        (
            {"image_size": [8, 8, 8]},
            "config: image_size=[8, 8, 8]; right: one number of pixels, or two",
        ),
        ({"patch_size": 0}, "config: patch_size=0; right: one number of pixels, or two"),
        (
            {"patch_size": 13},
            "config: patch_size=13 is more than image_size=12; right: at least one patch",
        ),
        (
            {"num_attention_heads": 5},
            "config: hidden_size=24 is not a multiple of num_attention_heads=5",
        ),
        ({"num_channels": 0}, "config: num_channels=0; right: at least 1"),
    ],
)
def test_config_refuses(options, message):
    with pytest.raises(InputError) as caught:
        vit.ViTConfig.from_dict({**hf_vit().config.to_dict(), **options})
    assert str(caught.value) == message


def test_wrong_inputs_are_named():
    ours = minift.from_hf(hf_vit("plain", HEAD))
    pixels, labels = images(ours.config), torch.tensor([0, 4, 2])
    wrong = [
        (
            {"pixel_values": pixels[..., :8]},
            "pixel_values: shape (3, 3, 12, 8); right: (batch, 3, 12, 12)",
        ),
        (
            {"pixel_values": pixels[:, :1]},
            "pixel_values: shape (3, 1, 12, 12); right: (batch, 3, 12, 12)",
        ),
        (
            {"pixel_values": pixels[0]},
            "pixel_values: shape (3, 12, 12); right: (batch, 3, 12, 12)",
        ),
        (
            {"pixel_values": pixels.to(torch.uint8)},
            "pixel_values: dtype torch.uint8; right: floating point, scaled as in training",
        ),
        ({"labels": labels + 1}, "labels: 5 is outside 0…4; right: a class, or −100 to ignore"),
        ({"labels": labels[:, None]}, "labels: shape (3, 1); right: (3,)"),
    ]
    for change, message in wrong:
        with pytest.raises(InputError) as caught:
            ours(**{"pixel_values": pixels, "labels": labels, **change})
        assert str(caught.value) == message
