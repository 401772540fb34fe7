"""Before any test module imports PyTorch: one BLAS thread, no downloads, for children too.

And what takes minutes runs only when it is asked for.
"""

from pathlib import Path

import pytest

from minift.course.environment import fetch_assets, make_steady
from minift.course.lessons.offline import cut_network

make_steady()

ON_REQUEST = {
    "mutants": "every seeded bug of the kernels, and the kill table; run with -m mutants",
    "shipped": "every shipped configuration, compiled; run with -m shipped",
    "released": "every seeded mistake in the students' edition; run with -m released",
}


def pytest_configure(config: pytest.Config) -> None:
    """Fetch the assets once, in the process that starts the others; then there is no network."""
    for name, meaning in ON_REQUEST.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if not hasattr(config, "workerinput"):
        fetch_assets()
    cut_network()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes minutes runs only when it is asked for."""
    asleep = [name for name in ON_REQUEST if name not in config.option.markexpr]
    left_out = [item for item in items if any(map(item.get_closest_marker, asleep))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not any(map(item.get_closest_marker, asleep))]


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT encoder with MiniLM's tokenizer, as a folder that ``transformers`` wrote.

    It takes at most 128 tokens.
    """
    import torch
    import transformers

    import minift

    folder = tmp_path_factory.mktemp("tiny-encoder")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=128,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    minift.load_tokenizer("minilm").save(folder)
    return folder
