"""Every way a model folder can be wrong, with the one line that it gives."""

import json
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_hf import hf_bert, hf_gpt2

import minift
from minift.errors import InputError
from minift.models.loading import FAMILIES

KNOWN = ", ".join(sorted(FAMILIES))
RUN = []
CONVERT = (
    "right: safetensors, e.g. AutoModel.from_pretrained(…).save_pretrained(…) in transformers, "
    "where you trust the file"
)


class Bomb:
    """Pickled, it appends to ``RUN`` when anything unpickles it."""

    def __reduce__(self):
        return RUN.append, ("unpickled",)


def error_of(folder, **options):
    with pytest.raises(InputError) as caught:
        minift.load(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "FOLDER")


@pytest.fixture
def folder(tmp_path):
    hf_bert("plain", "BertForTokenClassification").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def edit(folder):
    def change(**options):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **options}))

    return change


@pytest.fixture
def weights(folder):
    return folder / "model.safetensors"


def test_no_folder(tmp_path, folder, monkeypatch):
    right = "right: one with config.json and model.safetensors"
    assert error_of(tmp_path / "nothing") == f"FOLDER: no such folder; {right}"
    monkeypatch.chdir(tmp_path)
    assert error_of("minilmm").replace("FOLDER", "minilmm") == (
        "model: no folder 'minilmm' and no model of that name; known: minilm, smollm2; "
        "did you mean 'minilm'?"
    )
    assert error_of(folder / "config.json") == (
        "FOLDER: is a file; right: the folder of config.json and model.safetensors"
    )


def test_no_config(folder):
    (folder / "config.json").unlink()
    assert error_of(folder) == (
        "FOLDER: no config.json in it; right: a folder with it and model.safetensors"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type":\n "bert",}', ", line 2: not JSON (Illegal trailing comma before end of"),
        ("{", ", line 1: not JSON (Expecting property name enclosed in double quotes)"),
        ("[1]", ": holds a list; right: a JSON object {…}"),
        ("", ": the file is empty"),
        ("[" * 100_000, ": not a config (nested too deeply)"),
        ("{}", f": model_type is missing; known: {KNOWN}"),
        (
            '{"model_type": "bart"}',
            f": model_type: unknown 'bart'; known: {KNOWN}; did you mean 'bert'?",
        ),
        (
            '{"model_type": ["bert"]}',
            f": model_type: unknown ['bert']; known: {KNOWN}",
        ),
        (
            '{"model_type": "bert", "architectures": "BertModel"}',
            ": architectures='BertModel'; right: a list with one class name",
        ),
        (
            '{"model_type": "bert", "architectures": [[1]]}',
            ": architectures=[[1]]; right: a list with one class name",
        ),
        (
            f'{{"model_type": "gpt2", "n_embd": {10**30}}}',
            f": config: n_embd={10**30}; right: at most 2,147,483,647",
        ),
        (
            '{"model_type": "gpt2", "n_layer": 1000000}',
            ": config: n_layer=1000000; right: at most 10,000",
        ),
        (
            '{"model_type": "bert", "architectures": ["BertForQuestionAnswering"]}',
            ": architectures: unknown 'BertForQuestionAnswering'; known: BertForMaskedLM, "
            "BertForNextSentencePrediction, BertForPreTraining, BertForSequenceClassification, "
            "BertForTokenClassification, BertModel; or load only its body with task='encoder'",
        ),
        (
            '{"model_type": "bert", "is_decoder": true}',
            ": config: is_decoder=True is not supported; right: False",
        ),
    ],
)
def test_config(folder, text, message):
    (folder / "config.json").write_text(text)
    got = error_of(folder)
    assert got.startswith(f"FOLDER/config.json{message}") or "line 2: not JSON" in message
    if "line 2" in message:  # the wording is Python's
        assert got.startswith("FOLDER/config.json, line 2: not JSON (")


def test_config_is_not_text(folder):
    (folder / "config.json").write_bytes(b'{"a": "\xff"}')
    assert error_of(folder) == (
        "FOLDER/config.json: byte 0xff is not UTF-8; right would be UTF-8 text"
    )


def test_missing_extra_and_mis_shaped_tensors(folder, weights):
    tensors = load_file(weights)
    whole = dict(tensors)
    del tensors["bert.embeddings.LayerNorm.bias"]
    save_file(tensors, weights)
    assert error_of(folder) == (
        "FOLDER: tensors do not match the config; 1 missing: bert.embeddings.LayerNorm.bias"
    )
    save_file({**whole, "bert.embeddings.extra": torch.zeros(1)}, weights)
    assert error_of(folder) == (
        "FOLDER: tensors do not match the config; 1 not expected: bert.embeddings.extra"
    )
    save_file({**whole, "classifier.weight": torch.zeros(4, 24)}, weights)
    assert error_of(folder) == (
        "FOLDER: tensors do not match the config; 1 of another shape or type: "
        "classifier.weight (4, 24) (right: (5, 24))"
    )
    save_file({**whole, "classifier.bias": torch.zeros(5, dtype=torch.int8)}, weights)
    assert error_of(folder) == (
        "FOLDER: tensors do not match the config; 1 of another shape or type: "
        "classifier.bias torch.int8 (right: floating point)"
    )


def test_a_tensor_under_two_names(folder, weights):
    tensors = load_file(weights)
    name = "bert.embeddings.LayerNorm.weight"
    save_file({**tensors, name.removeprefix("bert."): tensors[name] + 1}, weights)
    got = error_of(folder)
    assert got.startswith("FOLDER: ")
    assert got.endswith("embeddings.LayerNorm.weight is there under two names; right: once")


def test_many_problems_are_counted(folder, edit):
    edit(num_hidden_layers=3, hidden_size=28)
    got = error_of(folder)
    layer = "bert.encoder.layer.2.attention.self"
    assert f"16 missing: {layer}.query.weight, {layer}.query.bias, {layer}.key.weight" in got
    assert "and 13 more; 36 of another shape or type: " in got
    assert "bert.embeddings.word_embeddings.weight (53, 24) (right: (53, 28)), " in got
    assert got.endswith(" and 33 more")
    edit(num_hidden_layers=1, hidden_size=24)
    layer = "bert.encoder.layer.1.attention.output.LayerNorm"
    assert error_of(folder) == (
        "FOLDER: tensors do not match the config; 16 not expected: "
        f"{layer}.bias, {layer}.weight, bert.encoder.layer.1.attention.output.dense.bias "
        "and 13 more"
    )


def test_sizes_beyond_any_memory(folder, edit):
    edit(hidden_size=2**31 - 8)
    assert error_of(folder).startswith("config: sizes that no memory holds (")


def test_a_head_that_should_be_there(folder, edit, weights):
    tensors = load_file(weights)
    save_file({k: v for k, v in tensors.items() if not k.startswith("classifier")}, weights)
    assert error_of(folder) == (
        "FOLDER: tensors do not match the config; 2 missing: classifier.weight, classifier.bias"
    )


def test_half_a_pooler(tmp_path):
    hf_bert().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["pooler.dense.bias"]
    save_file(tensors, file)
    assert error_of(tmp_path) == (
        "FOLDER: tensors do not match the config; 1 missing: pooler.dense.bias"
    )
    del tensors["pooler.dense.weight"]
    save_file(tensors, file)
    assert minift.load(tmp_path).pooler is None


def test_a_tied_weight_with_other_values(tmp_path):
    hf_gpt2().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "lm_head.weight": tensors["transformer.wte.weight"] + 1}, file)
    assert error_of(tmp_path) == (
        "FOLDER: lm_head.weight differs from the embedding that the config ties it to; "
        "right: the same values, or tie_word_embeddings false"
    )


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "model.ckpt"])
def test_a_pickle_is_refused(folder, weights, name):
    weights.unlink()
    torch.save(Bomb(), folder / name)
    assert error_of(folder) == (
        f"FOLDER/{name}: a pickle file can run code and is not opened; {CONVERT}"
    )
    assert error_of(folder / name) == (
        f"FOLDER: a pickle file can run code and is not opened; {CONVERT}"
    )
    assert RUN == []


def test_a_pickle_named_by_the_index_is_refused(folder, weights):
    weights.unlink()
    torch.save(Bomb(), folder / "shard.bin")
    index = {"weight_map": {"classifier.weight": "shard.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert error_of(folder) == (
        f"FOLDER/shard.bin: a pickle file can run code and is not opened; {CONVERT}"
    )
    assert RUN == []


def test_no_weights(folder, weights):
    weights.unlink()
    assert error_of(folder) == (
        "FOLDER: no model.safetensors in it; right: a folder with it and config.json"
    )


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_under_the_wrong_name(folder, weights, protocol):
    weights.write_bytes(pickle.dumps({"classifier.weight": Bomb()}, protocol=protocol))
    right = f"FOLDER/model.safetensors: is a pickle under a safetensors name, not opened; {CONVERT}"
    assert error_of(folder) == right
    torch.save({"classifier.weight": Bomb()}, weights)
    assert zipfile.is_zipfile(weights)
    assert error_of(folder) == right
    assert RUN == []


@pytest.mark.parametrize("keep", [0, 5, 8, 100, 3000, -1])
def test_a_truncated_file(folder, weights, keep):
    weights.write_bytes(weights.read_bytes()[:keep])
    got = error_of(folder)
    assert got.startswith("FOLDER/model.safetensors: not a whole safetensors file (")
    assert got.endswith("; right: download or save it again")


def test_a_corrupt_header(folder, weights):
    data = bytearray(weights.read_bytes())
    data[20:30] = b"\x00" * 10
    weights.write_bytes(data)
    assert "not a whole safetensors file (" in error_of(folder)
    data[:8] = (2**62).to_bytes(8, "little")
    weights.write_bytes(data)
    assert "not a whole safetensors file (" in error_of(folder)


def test_a_git_lfs_pointer(folder, weights):
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90\n")
    assert error_of(folder) == (
        "FOLDER/model.safetensors: is a Git LFS pointer, not the weights; right: git lfs pull"
    )


def test_shards_that_do_not_agree(tmp_path):
    hf_bert().save_pretrained(tmp_path, max_shard_size="20KB")
    index_file = tmp_path / "model.safetensors.index.json"
    index = json.loads(index_file.read_text())
    first = "model-00001-of"
    shard = next(path for path in tmp_path.iterdir() if path.name.startswith(first))

    def with_map(weight_map):
        index_file.write_text(json.dumps({"weight_map": weight_map}))
        return error_of(tmp_path).replace(shard.name, "SHARD")

    where = "FOLDER/model.safetensors.index.json"
    assert with_map({}) == f"{where}: no weight_map; right: tensor names and their files"
    assert with_map({**index["weight_map"], "ghost": shard.name}) == (
        f"{where}: ghost not in the shards; right: download again"
    )
    name = next(n for n, place in index["weight_map"].items() if place == shard.name)
    other = next(place for place in index["weight_map"].values() if place != shard.name)
    for wrong in ({**index["weight_map"], name: other}, {**index["weight_map"], name: None}):
        kept = {n: place for n, place in wrong.items() if place is not None}
        assert with_map(kept) == (
            f"{where}: {name} in SHARD, against its weight_map; right: an index that was written "
            "with its shards"
        )
    (tmp_path.parent / "outside.safetensors").write_bytes(shard.read_bytes())
    assert with_map({"x": "../outside.safetensors"}) == (
        f"{where}: names '../outside.safetensors', which is not a file in FOLDER"
    )
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-3])
    assert with_map(index["weight_map"]).startswith("FOLDER/SHARD: not a whole safetensors file (")
    shard.unlink()
    assert with_map(index["weight_map"]) == (
        f"{where}: names 'SHARD', which is not a file in FOLDER"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"task": "translation"},
            "task: unknown 'translation'; known: encoder, masked-lm, next-sentence, pretraining, "
            "sequence-classification, token-classification",
        ),
        (
            {"dtype": torch.int8},
            "dtype: unknown 'int8'; known: float32, float64, bfloat16, float16",
        ),
        (
            {"task": "encoder", "id2label": ["A"]},
            "id2label: BertModel has no classes; right: None, or a task",
        ),
        (
            {"id2label": ["A", "A", "B", "C", "D"]},
            "id2label: {0: 'A', 1: 'A', 2: 'B', 3: 'C', 4: 'D'} has a name twice; "
            "right: distinct names",
        ),
        (
            {"id2label": ["A", "B"]},
            "id2label: 2 names that are not those of the checkpoint's head "
            "(LABEL_0, LABEL_1, LABEL_2 and 2 more); right: the same ones in the same order, "
            "or None",
        ),
        ({"id2label": 5}, "id2label: 5; right: the class names, a list or {0: name, 1: name, …}"),
    ],
)
def test_options(folder, options, message):
    assert error_of(folder, **options) == message


def test_a_new_head_needs_names(tmp_path):
    hf_bert().save_pretrained(tmp_path)
    assert error_of(tmp_path, task="token-classification") == (
        "id2label: None; right: the class names of the new head"
    )


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_that_are_not_finite(folder, weights, value, dtype):
    tensors = load_file(weights)
    name = "bert.encoder.layer.0.output.dense.weight"
    tensors[name] = tensors[name].to(dtype)
    for place in (0, 500, -1):
        whole = tensors[name].clone()
        whole.view(-1)[place] = float(value)
        save_file({**tensors, name: whole}, weights)
        assert error_of(folder).startswith(f"FOLDER: {name} holds numbers that are not finite")
