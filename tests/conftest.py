"""Before any test module imports PyTorch: one BLAS thread, no downloads, for children too."""

from pathlib import Path

import pytest

from minift.course.environment import fetch_assets, make_steady
from minift.course.lessons.offline import cut_network

make_steady()


def pytest_configure(config: pytest.Config) -> None:
    """Fetch the assets once, in the process that starts the others; then there is no network."""
    if not hasattr(config, "workerinput"):
        fetch_assets()
    cut_network()


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
