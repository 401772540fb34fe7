"""Sphinx, set up for the course: its configuration, and formulas as MathML."""

import io
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.console import nocolor
from sphinx.util.docutils import docutils_namespace, patch_docutils

from minift.course.site.font import math_font
from minift.errors import InputError

STYLE = Path(__file__).with_name("site.css")

# Excerpts in the search results are fetched from the pages, which browsers refuse on a disk.
SEARCH = 'DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== "file:";'

# Where the converter's MathML would be set otherwise than LaTeX sets the formula.
TYPOGRAPHY = [
    (r"\\([_%&#$])(?=[^<]*</mtext>)", r"\1"),
    # Beside words that are <mtext>, which counts as space, an operator would lose its own space.
    (r"<mtext>([^<]{2,})</mtext>", r"<mi>\1</mi>"),
    (r"<mtext>", '<mi mathvariant="normal">'),
    (r"</mtext>", "</mi>"),
    (r"<mo>&#x0221E;</mo>", "<mi>&#x0221E;</mi>"),  # infinity is no operator
    (r'<mn mathvariant="double-struck">1</mn>', "<mn>&#x1D7D9;</mn>"),
    (r"<mo[^>]*>(&#x0007C;|&#x02016;)</mo>", r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>'),
    # A named function: a thin space from its neighbours, but not from operators and parentheses.
    (r"<m([io])>(ln|log|max|min)</m\1>", r'<mo lspace="0.167em" rspace="0.167em">\2</mo>'),
    (r'(?<=</mo>)<mo lspace="0.167em"', '<mo lspace="0"'),
    (r'rspace="0.167em"(?=>\w+</mo><mo[^>]*>&#x00028;)', 'rspace="0"'),
]

CONFIGURATION: dict[str, Any] = {
    "project": "minift",
    "extensions": ["myst_nb", __name__],
    "language": "en",
    "smartquotes": False,
    "myst_enable_extensions": ["dollarmath"],
    "nb_execution_mode": "off",
    "nb_ipywidgets_js": {},  # the default is fetched from a server
    "nb_render_error_lexer": "text",
    "html_math_renderer": "mathml",
    "html_theme": "sphinx_book_theme",
    "html_title": "minift",
    "html_context": {"default_mode": "auto"},
    "html_css_files": ["site.css"],
    "html_domain_indices": False,
    "html_use_index": False,
    "html_show_copyright": False,
    "html_show_sphinx": False,
    "html_theme_options": {
        "footer_content_items": "",
        "home_page_in_toc": True,
        "show_toc_level": 2,
        "use_fullscreen_button": False,
        "navigation_with_keys": False,
    },
}


def render(source: Path, site: Path) -> None:
    """Build the pages of ``source`` into ``site``.

    Raises:
        InputError: Sphinx warned of something; the message is its first warning.
    """
    nocolor()
    static = source / "_static"
    static.mkdir()
    shutil.copyfile(STYLE, static / STYLE.name)
    (static / "math.ttf").write_bytes(math_font())
    warnings = io.StringIO()
    with docutils_namespace(), patch_docutils(str(source)):
        Sphinx(
            srcdir=source, confdir=None, outdir=site, doctreedir=source / ".doctrees",
            buildername="html", status=None, warning=warnings, freshenv=True,
            confoverrides={**CONFIGURATION, "html_static_path": [str(static)]},
        ).build()  # fmt: skip
    for line in warnings.getvalue().splitlines():
        raise InputError(f"site: {line.removeprefix(f'{source}/')}")


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls to learn of the additions made here."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.add_js_file(None, body=SEARCH)
    app.connect("doctree-read", _look_for_alternative_texts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mathml(formula: str, display: str) -> str:
    """A formula in LaTeX as MathML Core, the part of MathML that all browsers show.

    Args:
        display: "inline" or "block".

    Raises:
        ValueError: it holds a command that is not known, or a style of letters that is not shown.
    """
    text = convert(formula, display=display)
    for pattern, replacement in TYPOGRAPHY:
        text = re.sub(pattern, replacement, text)
    if lost := re.search(r"\\\w*|(?<=mathvariant=\")(?!normal)[\w-]+", text):
        raise ValueError(f"{lost[0]} in the formula {formula!r} cannot be shown")
    return text


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_converted(node, "inline"))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{_converted(node, "block")}</div>')
    raise nodes.SkipNode


def _converted(node: nodes.Element, display: str) -> str:
    try:
        return mathml(node.astext(), display)
    except Exception as error:  # of which the converter has a dozen kinds
        logging.getLogger(__name__).warning("%s", error, location=node)
        return ""


def _look_for_alternative_texts(app: Sphinx, document: nodes.document) -> None:
    for image in document.findall(nodes.image):
        if not image.get("alt", "").strip():
            logging.getLogger(__name__).warning("an image without alternative text", location=image)
