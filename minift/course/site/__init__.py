"""The course as a static site: pages to read, to search and to print, with nothing to install.

``build(folder)`` makes it from the stored notebooks with Sphinx and MyST-NB; nothing is executed
and nothing fetched. The site opens from a disk as well as from a server: formulas are MathML, the
search index is a file, fonts and scripts are its own. It fails rather than write a page with an
image that has no alternative text, a link that leads nowhere, or a request to another host.
"""

import hashlib
import json
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from minift.errors import InputError
from minift.files import check_new_folder, new_folder, write_json

PACKAGES = {  # what is imported → what is installed
    "sphinx": "sphinx",
    "myst_nb": "myst-nb",
    "sphinx_book_theme": "sphinx-book-theme",
    "latex2mathml": "latex2mathml",
    "ziamath": "ziamath",
    "fontTools": "fonttools",
}
MANIFEST = "site.json"


def build(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Write the site into ``folder``, whole or not at all; an earlier site there is replaced.

    The same notebooks give the same bytes.

    Args:
        folder: a new or empty folder, or one that holds an earlier site and nothing else.

    Returns:
        ``site``, the folder; ``pages``, the notebooks in the order of the course; ``images`` and
        ``bytes``, how many.

    Raises:
        InputError: a package is missing; ``folder`` holds something else; a notebook is not built
            yet; an image has no alternative text, a link leads nowhere, a formula is unknown.
    """
    _need_packages()
    check_new_folder("DIR", folder, overwrite=_is_site(Path(folder)), hint=False)
    from minift.course.site import inspection, pages, rendering

    shown = pages.all_pages()
    with tempfile.TemporaryDirectory() as scratch, new_folder(folder) as site:
        source, rendered = Path(scratch, "source"), Path(scratch, "site")
        pages.write_sources(shown, source)
        rendering.render(source, rendered)  # MyST-NB also writes beside the site
        shutil.copytree(rendered, site, dirs_exist_ok=True)
        pages.copy_notebooks(shown, site / "_sources")
        _remove_spare_files(site)
        if found := inspection.problems(site):
            more = f" (and {len(found) - 1} more)" if found[1:] else ""
            raise InputError(f"site: {found[0]}{more}")
        write_json(site / MANIFEST, {"files": _files(site)})
    return {
        "site": os.fspath(folder),
        "pages": [page.name for page in shown],
        "images": sum(name.startswith("_images/") for name in _files(Path(folder))),
        "bytes": sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()),
    }


def _need_packages() -> None:
    missing = [name for module, name in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise InputError(
            f"the site needs packages that are missing: pip install {' '.join(missing)}"
        )


def _files(site: Path) -> dict[str, str]:
    """Every file below ``site`` with its sha256, the manifest left out."""
    return {
        path.relative_to(site).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(site.rglob("*"))
        if path.is_file() and path != site / MANIFEST
    }


def _is_site(folder: Path) -> bool:
    """Whether the folder holds a site that nobody has added to or changed."""
    try:
        return bool(json.loads((folder / MANIFEST).read_bytes())["files"] == _files(folder))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _remove_spare_files(site: Path) -> None:
    """Drop what only tools read, such as source maps, and have GitHub serve ``_static``."""
    for path in [*site.rglob("*.map"), site / ".buildinfo", site / "objects.inv"]:
        path.unlink(missing_ok=True)
    (site / ".nojekyll").touch()
