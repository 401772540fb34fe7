"""``source="hub"``: the Hub's client in the same path. A stand-in client: tests are offline."""

import errno
import json
import logging
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from minift import InputError, assets
from minift.assets import ASSETS, cache


class FakeHub(ModuleType):
    """``huggingface_hub`` as far as it is used: one download function, and its switch for bars."""

    def __init__(self) -> None:
        super().__init__("huggingface_hub")
        self.files: dict[str, bytes] = {}
        self.error: Exception | None = None
        self.calls: list[tuple[str, str, str]] = []
        self.folders: list[Path] = []
        self.bars: list[bool] = [True]
        self.utils = SimpleNamespace(
            are_progress_bars_disabled=lambda: not self.bars[-1],
            disable_progress_bars=lambda: self.bars.append(False),
            enable_progress_bars=lambda: self.bars.append(True),
        )

    def hf_hub_download(self, repo: str, name: str, *, revision: str, local_dir: Path) -> str:
        self.calls.append((repo, name, revision))
        self.folders.append(Path(local_dir))
        self.bars.append(self.bars[-1])
        logging.getLogger("huggingface_hub").warning("Retrying in 1s")
        if self.error:
            raise self.error
        file = Path(local_dir) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.files[name])
        return str(file)


@pytest.fixture
def hub(with_hub, monkeypatch, forbid_processes) -> FakeHub:
    """The stand-in, holding the tiny asset's one file; pip must not be used."""
    fake = FakeHub()
    fake.files["model.bin"] = with_hub.weights
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    forbid_processes()
    return fake


def test_the_hub_gives_the_same_files_from_the_pinned_revision(with_hub, hub, capsys):
    folder = assets.fetch("tiny", source="hub")
    assert hub.calls == [("somebody/tiny", "model.bin", "0123abc")]
    assert hub.folders[0].is_relative_to(with_hub.cache / ".staging/tiny")
    assert {p.name for p in folder.rglob("*")} == {"model.bin", cache.MANIFEST}
    manifest = json.loads((folder / cache.MANIFEST).read_text())
    assert manifest["from"] == "hub: somebody/tiny@0123abc"
    assets.verify("tiny")
    assert capsys.readouterr().err == "tiny: fetching 0.2 MB from somebody/tiny\n"
    assert assets.fetch("tiny", source="hub") == assets.fetch("tiny") == folder
    assert len(hub.calls) == 1


def test_other_bytes_from_the_hub_are_refused(with_hub, hub):
    hub.files["model.bin"] = hub.files["model.bin"][:-1] + b"?"
    with pytest.raises(InputError, match=r"refused, nothing was kept: .*model\.bin: content"):
        assets.fetch("tiny", source="hub", progress=False)
    assert with_hub.left_over() == [] and not with_hub.folder.exists()


def error_named(name: str, base: type[Exception] = Exception, *arguments: object) -> Exception:
    return type(name, (base,), {})(*arguments)


FAILURES = [
    (error_named("LocalEntryNotFoundError", FileNotFoundError, "x"), "no network: cannot reach"),
    (error_named("OfflineModeIsEnabled", ConnectionError, "x"), "no network"),
    (error_named("ConnectTimeout", error_named("TransportError").__class__, "x"), "no network"),
    (TimeoutError("x"), "no network"),
    (error_named("RepositoryNotFoundError", OSError, "x"), "no longer offers somebody/tiny/model"),
    (error_named("RemoteEntryNotFoundError", type(error_named("EntryNotFoundError"))), "no longer"),
    (OSError(errno.ENOSPC, "No space left on device"), "not enough room"),
    (OSError(errno.EACCES, "Permission denied"), "cannot use the cache folder"),
    (RuntimeError("new\nkind of failure"), "the Hub's client failed, .*: new kind of failure"),
]


@pytest.mark.parametrize(("error", "says"), FAILURES, ids=lambda value: type(value).__name__)
def test_each_failure_of_the_hub_is_one_line(with_hub, hub, error, says):
    hub.error = error
    with pytest.raises(InputError, match=says) as caught:
        assets.fetch("tiny", source="hub", progress=False)
    assert "\n" not in str(caught.value)
    assert with_hub.left_over() == [] and not with_hub.folder.exists()


def test_the_real_client_s_errors_have_the_names_that_are_looked_for():
    from huggingface_hub import errors
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    from minift.assets import hub

    for name in ("LocalEntryNotFoundError", *hub.NOT_THERE):
        assert issubclass(getattr(errors, name), Exception)
    assert issubclass(errors.OfflineModeIsEnabled, ConnectionError)
    disabled = are_progress_bars_disabled()
    disable_progress_bars()
    assert are_progress_bars_disabled()
    if not disabled:
        enable_progress_bars()


def test_the_real_client_offline_is_no_network(with_hub, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"no network: cannot reach the Hugging Face Hub.*leave"):
        assets.fetch("tiny", source="hub", progress=False)
    assert with_hub.left_over() == []


def test_bars_and_log_level_are_as_before(with_hub, hub, caplog):
    logger = logging.getLogger("huggingface_hub")
    caplog.set_level(logging.INFO, logger.name)
    hub.error = TimeoutError()
    with pytest.raises(InputError):
        assets.fetch("tiny", source="hub", progress=False)
    assert hub.bars == [True, False, False, True]
    assert logger.level == logging.INFO and caplog.records == []
    hub.error = None
    assets.fetch("tiny", source="hub", progress=True)
    assert hub.bars[4:] == [True]


def test_without_the_client_it_says_what_to_install(with_hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install huggingface_hub.*leave out"):
        assets.fetch("tiny", source="hub", progress=False)
    assert with_hub.left_over() == []


def test_an_asset_without_a_counterpart(tiny):
    with pytest.raises(InputError, match=r"no copy of these files on the Hugging Face Hub"):
        assets.fetch("tiny", source="hub")
    assert not tiny.cache.exists()


def test_every_counterpart_is_pinned_and_has_only_single_files_under_their_own_names():
    with_hub = {name for name, asset in ASSETS.items() if asset.hub}
    assert with_hub == {"minilm", "gpt2-bpe", "smollm2"}
    for name in with_hub:
        asset = ASSETS[name]
        assert re.fullmatch("[0-9a-f]{40}", asset.hub.revision) and asset.hub.repo.count("/") == 1
        assert not asset.trees and not any(member.verses for member in asset.members)
