"""Files that change in the cache: seen, named, repaired."""

import pytest

from minift import InputError, assets
from minift.assets import cache


def test_a_corrupted_file_is_named_and_force_repairs_it(quick):
    assets.fetch("tiny", progress=False)
    file = quick.folder / "model.bin"
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    assert assets.is_cached("tiny")  # same size: the check on every use reads no content
    with pytest.raises(InputError, match=r"model\.bin: content differs .*fetch --force tiny"):
        assets.verify("tiny")
    assets.fetch("tiny", progress=False, force=True)
    assets.verify("tiny")


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "manifest gone"])
def test_a_damage_that_sizes_show_is_repaired_at_the_next_use(quick, damage, capsys):
    assets.fetch("tiny", progress=False)
    if damage == "truncate":
        (quick.folder / "notes/a.txt").write_bytes(b"fir")
    elif damage == "remove":
        (quick.folder / "notes/a.txt").unlink()
    elif damage == "manifest":
        (quick.folder / cache.MANIFEST).write_text('{"files": []}')
    else:
        (quick.folder / cache.MANIFEST).unlink()
    what = "a.txt" if damage in ("truncate", "remove") else cache.MANIFEST
    assert not assets.is_cached("tiny")
    for check in (assets.path, assets.verify):
        with pytest.raises(InputError, match=f"damaged.*{what}"):
            check("tiny")
    assets.fetch("tiny")
    assert "damaged" in capsys.readouterr().err
    assets.verify("tiny")


def test_a_foreign_file_among_an_assets_files_is_named(quick):
    assets.fetch("tiny", progress=False)
    (quick.folder / "notes/c.txt").write_text("foreign")
    with pytest.raises(InputError, match=r"notes/c\.txt: not part of it"):
        assets.verify("tiny")


def test_a_manifest_rewritten_with_the_files_does_not_deceive(quick):
    assets.fetch("tiny", progress=False)
    (quick.folder / "model.bin").write_bytes(b"other weights")
    cache.write_manifest(quick.asset, quick.folder, "x", cache.survey(quick.folder))
    assert assets.is_cached("tiny")
    with pytest.raises(InputError, match=r"model\.bin: content differs"):
        assets.verify("tiny")


def test_not_fetched_is_not_damaged(quick):
    for check in (assets.path, assets.verify):
        with pytest.raises(InputError, match=r"not fetched yet; run .*assets fetch tiny"):
            check("tiny")
    assert not quick.cache.exists()
