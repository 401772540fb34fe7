"""The static site from a disk, in a browser: searched and read, wide and narrow, light and dark.

Pictures go into the test's temporary folder, or into the one that ``MINIFT_SCREENSHOTS`` names.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="no playwright (requirements.txt has it)")
pytest.importorskip("sphinx_book_theme", reason="no sphinx-book-theme (requirements.txt has it)")

from lab_server import CHROMIUM, chromium
from playwright.sync_api import Browser, Locator, Page, expect

from minift.course import site
from minift.course.site.pages import all_pages

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore:.*deprecated. Check CHANGES for Sphinx"),
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH (Debian calls it chromium)"),
]

LESSON = "1-transformer/04_attention"
WIDTHS = {"wide": 1280, "narrow": 390}  # a laptop's window, a telephone
WIDER_THAN_THE_PAGE = "document.documentElement.scrollWidth - window.innerWidth"
UNSEEN_FORMULAS = """[...document.querySelectorAll("article math")].filter((formula) => {
  const box = formula.getBoundingClientRect();
  return box.width < 4 || box.height < 4;
}).length"""
UNSEEN_IMAGES = """[...document.querySelectorAll("article img")]
  .filter((image) => !(image.complete && image.naturalWidth)).length"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("course") / "site"
    site.build(folder)
    return folder.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as context:
        assert context.browser
        yield context.browser


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("MINIFT_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def opened(browser: Browser, address: str, width: int, scheme: str) -> Iterator[Page]:
    """A tab in which nothing may fail: no script, no request, nothing from anywhere else."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page, wrong = context.new_page(), []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on(
        "request", lambda r: None if r.url.startswith((address, "data:")) else wrong.append(r.url)
    )
    page.goto(f"{address}/index.html")
    yield page
    assert wrong == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_word_is_searched_and_its_lesson_read(
    browser: Browser, address: str, pictures: Path, width: str, scheme: str
) -> None:
    with opened(browser, address, WIDTHS[width], scheme) as page:
        page.screenshot(path=pictures / f"site-index-{width}-{scheme}.png")
        page.locator("button[aria-label=Search]:visible").first.click()
        page.locator("#pst-search-dialog input[type=search]").fill("causal")
        page.keyboard.press("Enter")
        found = page.locator("#search-results a").filter(has_text="Attention: from one dot product")
        found.first.wait_for()
        page.screenshot(path=pictures / f"site-search-{width}-{scheme}.png")
        found.first.click()
        page.wait_for_url(f"{address}/{LESSON}.html*")
        expect(page.locator("article h1")).to_contain_text("Attention")
        expect(page.locator("html")).to_have_attribute("data-theme", scheme)
        page.locator(".formula").first.scroll_into_view_if_needed()
        page.screenshot(path=pictures / f"site-lesson-{width}-{scheme}.png")

        hint = page.locator("details", has_text="Hint 1").first
        assert not hint.locator("p").first.is_visible()
        hint.locator("summary").click()
        assert hint.locator("p").first.is_visible()
        page.screenshot(path=pictures / f"site-hint-{width}-{scheme}.png")


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_shows_its_formulas_and_images_and_fits(
    browser: Browser, address: str, width: str
) -> None:
    with opened(browser, address, WIDTHS[width], "light") as page:
        for lesson in all_pages():
            page.goto(f"{address}/{lesson.name}.html")
            page.evaluate("document.fonts.ready")
            assert page.evaluate(UNSEEN_FORMULAS) == 0, lesson.name
            assert page.evaluate(UNSEEN_IMAGES) == 0, lesson.name
            assert page.evaluate(WIDER_THAN_THE_PAGE) <= 0, lesson.name


def test_formulas_have_their_own_font(browser: Browser, address: str) -> None:
    with opened(browser, address, 1280, "light") as page:
        page.goto(f"{address}/{LESSON}.html")
        page.evaluate("document.fonts.ready")
        loaded = "[...document.fonts].filter((f) => f.status == 'loaded').map((f) => f.family)"
        assert "STIX Two Math" in str(page.evaluate(loaded))
        opening = page.locator(".formula math").first.locator("mo:text-is('(')")
        heights = [_height(parenthesis) for parenthesis in opening.all()]
        assert max(heights) > 1.8 * min(heights)  # the parentheses around a fraction have grown


def _height(locator: Locator) -> float:
    box = locator.bounding_box()
    assert box
    return box["height"]
