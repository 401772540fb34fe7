"""The font of the formulas: STIX Two Math, less what no formula uses, with narrower large roots."""

import io
from functools import cache
from importlib.metadata import distribution

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

FONT = "ziamath/fonts/STIXTwoMath-Regular.ttf"
ROOT = 0x221A

# Latin, Greek, punctuation and scripts, letter-like symbols to technical ones, brackets, letters.
RANGES = [
    (0x20, 0xFF), (0x300, 0x3FF), (0x2000, 0x23FF), (0x27C0, 0x27FF), (0x1D400, 0x1D7FF),
]  # fmt: skip


@cache
def math_font() -> bytes:
    """The font as a TrueType file, the same bytes in every process."""
    font = TTFont(str(distribution("ziamath").locate_file(FONT)), recalcTimestamp=False)
    options = Options(hinting=False, name_IDs=["*"], layout_features=["*"])
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=[code for a, b in RANGES for code in range(a, b + 1)])
    subsetter.subset(font)
    _narrow_roots(font)
    data = io.BytesIO()
    font.save(data)
    return data.getvalue()


def _narrow_roots(font: TTFont) -> None:
    """Make the root's larger forms as wide as the smallest.

    Chromium reserves the width of the widest form for every root, which leaves a gap behind √D.
    """
    smallest = font.getBestCmap()[ROOT]
    width = font["hmtx"][smallest][0]
    for name in forms(font, smallest):
        advance, bearing = font["hmtx"][name]
        factor = width / advance
        font["glyf"][name].coordinates.scale((factor, 1))
        font["glyf"][name].recalcBounds(font["glyf"])
        font["hmtx"][name] = (width, round(bearing * factor))


def forms(font: TTFont, glyph: str) -> list[str]:
    """The larger forms of a glyph that grows upwards, and the pieces of the largest."""
    variants = font["MATH"].table.MathVariants
    place = variants.VertGlyphCoverage.glyphs.index(glyph)
    construction = variants.VertGlyphConstruction[place]
    larger = [record.VariantGlyph for record in construction.MathGlyphVariantRecord]
    pieces = [part.glyph for part in construction.GlyphAssembly.PartRecords]
    return [name for name in dict.fromkeys([*larger, *pieces]) if name != glyph]
