"""What would be wrong with a built site: read from its files, as a browser would."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# The attributes whose address a browser loads by itself, with no click.
LOADS = {
    "audio": "src", "embed": "src", "iframe": "src", "img": "src", "input": "src", "link": "href",
    "object": "data", "script": "src", "source": "src", "track": "src", "video": "src",
}  # fmt: skip

_STYLE_LOAD = re.compile(r"(?:url\(|@import\s)\s*[\"']?(?:https?:)?(//[^)\"'\s]+)")


@dataclass
class Document(HTMLParser):
    """The parts of a page that can be wrong: links, loads, images, anchors, its text's headings."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)
    headings: list[int] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    in_text: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        self.in_text |= tag == "article" or values.get("class") == "bd-search-container"
        if self.in_text and re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADS and LOADS[tag] in values:
            self.loads.append(values[LOADS[tag]])

    def handle_endtag(self, tag: str) -> None:
        self.in_text &= tag != "article"


def read(path: Path) -> Document:
    """The page at ``path``."""
    document = Document()
    document.feed(path.read_text(encoding="utf-8"))
    return document


def problems(site: Path) -> list[str]:
    """Everything about a built site that is not as it should be; empty when all is well."""
    pages = {
        path: read(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts
    }
    found = [
        f"{path.relative_to(site).as_posix()}: {problem}"
        for path, page in pages.items()
        for problem in [*_images(page), *_headings(page), *_addresses(path, page, pages)]
    ]
    for path in sorted(site.rglob("*.css")):
        for address in _STYLE_LOAD.findall(path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(site).as_posix()}: loads from another host: {address}")
    return found


def _images(page: Document) -> Iterator[str]:
    for image in page.images:
        if not image.get("alt", "").strip():
            yield f"an image without alternative text: {image.get('src', '')[:60]}"


def _headings(page: Document) -> Iterator[str]:
    if page.headings.count(1) != 1:
        yield f"{page.headings.count(1)} headings of the first level; 1 is right"
    for above, below in zip(page.headings, page.headings[1:], strict=False):
        if below > above + 1:
            yield f"a heading of level {below} stands below one of level {above}"


def _addresses(path: Path, page: Document, pages: dict[Path, Document]) -> Iterator[str]:
    for address in page.loads:
        if urlsplit(address).netloc:
            yield f"loads from another host: {address}"
    for address in [*page.loads, *page.links]:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.is_file():
            yield f"a link leads nowhere: {address}"
        elif parts.fragment and target in pages and parts.fragment not in pages[target].ids:
            yield f"a link leads to no place on the page: {address}"
