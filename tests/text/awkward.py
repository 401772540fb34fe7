"""Every code point, and texts made to be awkward for any tokenizer."""

import random

EVERY = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def is_varied(char: str) -> bool:
    """False for ideographs, Hangul syllables, private use and planes without characters."""
    return (
        char < "\u3400"
        or "\ua000" <= char < "\uac00"
        or "\ud7a0" <= char < "\ue000"
        or "\uf900" <= char < "\U00017000"
        or "\U0001afe0" <= char < "\U00020000"
        or "\U000e0000" <= char < "\U000e0200"
    )


# The others are of one kind by the ten thousand: every 199th of them stays in.
VARIED = [char for i, char in enumerate(EVERY) if is_varied(char) or i % 199 == 0]


AWKWARD = {
    "accents composed": "Crème Brûlée, naïve façade; Ångström Ǻ ǖ ệ ṩ",
    "accents decomposed": "Cre\u0300me Bru\u0302le\u0301e nai\u0308ve e\u0323\u0302 s\u0323\u0307",
    "marks in the wrong order": "e\u0302\u0323 s\u0307\u0323 a\u0345\u0344 \u0f71\u0f72\u0f74",
    "spacing marks": "a\u0301\u302e\u0323 \uac00\u302f\u0301 \u1b44\u0316 \U0001d15f\U0001d165",
    "lone marks": "\u0301 \u0301\u0302 a \u20dd \ufe0f x\u0301",
    "a mark after a space": "a \u0301b",
    "a long run of marks": "a" + "\u0301\u0323" * 500 + "b",
    "CJK": "我来到北京清华大学。日本語とカタカナ、ｶﾀｶﾅ 한국어 漢字kanji漢字",
    "CJK extensions": "\u3400\u4dbf\U00020000\U0002a6df\U0002a700\U0002b81f\U0002b820\U0002ceaf",
    "CJK extensions 2": "\U0002ceb0\U0002ebf0\U0002f800\U0002fa1f\U00030000\U000323af\uf900\ufaff",
    "Hangul": "각 가\u11a8 \u1100\u1161\u11a8 힣 ㄱㄴㄷ ﾡ",
    "kana marks": "か\u3099 が は\u309a ぱ ヴ",
    "Arabic": "السَّلَامُ عَلَيْكُمْ، كيف الحال؟ ٱلرَّحْمَٰنِ لا",
    "Hebrew": "שָׁלוֹם עֲלֵיכֶם־בְּרֵאשִׁית׃ שׁלום",
    "Indic": "नमस्ते क़ क\u093c ক্ষ தமிழ் ಕನ್ನಡ മലയാളം ଓଡ଼ିଆ ਪੰਜਾਬੀ ગુજરાતી తెలుగు සිංහල",
    "Thai, Lao, Khmer, Tibetan": "ภาษาไทย ລາວ ភាសាខ្មែរ བོད་སྐད་ ཀཱི ྲྀ",
    "emoji": "👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 1️⃣ ☺︎ 🫠🪿",
    "control": "a\x00b\x01c\x7fd\x80e\x9ff\x1b[31mred\x1b[0m \x00 \x00\x01",
    "U+FFFD": "a\ufffdb \ufffd \ufffd\ufffd",
    "zero width": "a\u200bb\u200cc\u200dd\ufeffe\u2060f\u00adg\u180eh",
    "direction": "\u202bRTL\u202c \u200fx\u200e \u2066y\u2069 a\u202eb",
    "white space": "a\tb\nc\rd\r\ne\x0bf\x0cg\x85h\xa0i\u1680j\u2003k",
    "more white space": "l\u2028m\u2029n\u202fo\u205fp\u3000q\u200ar",
    "separators": "a\x1cb\x1dc\x1ed\x1fe",
    "only white space": " \t\n\xa0\u3000 ",
    "only removed": "\x00\u200b\ufffd\ue000",
    "nothing": "",
    "ligatures": "ﬁre ﬂow oﬃce ﬆ Ǆ ǅ ǆ Ĳ ĳ Œ Æ",
    "Turkish": "İstanbul ISPARTA ırmak i̇ I\u0307 DİYARBAKIR",
    "Greek": "ΟΔΥΣΣΕΥΣ Ὀδυσσεύς ΣΑΣ Σ ς σ ΐ ΰ Ά ά ᾳ ᾼ ῼ",
    "German": "Straße STRASSE ẞ größer GRÖSSER",
    "lower case that grows": "İİİ \u0130x \u1e9e \u01c5",
    "Kelvin, Ångström, Ohm": "\u212a \u212b \u2126 \u037e \u0387 \u1fef",
    "Cherokee and Georgian": "ᎣᏏᏲ ꮳꮃꭹ ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ საქართველო",
    "full width": "Ｈｅｌｌｏ，　Ｗｏｒｌｄ！１２３",
    "mathematics": "𝓗𝓮𝓵𝓵𝓸 𝔸 ℝ ∑x² ≤ ½ ¾ √2 ∞ x̂ x⃗",
    "symbols": "$100 €50 £20 ¥3 ₹7 © ® ™ § ¶ † ‡ • … ‰ ← ↑ ▲ ♥",
    "ASCII punctuation": r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~""",
    "quotes": "“don’t” ‘x’ «y» ‹z› „a‟ 「b」 it's won't",
    "private use": "a\ue000b\U000f0000c\U0010fffdd",
    "noncharacters": "a\ufffeb\uffffc\U0001ffffd\U0010ffffe",
    "special tokens": "[CLS] a [SEP] b[SEP]c [MASK]. [PAD][PAD] [UNK] [ SEP ] [sep] [[SEP]]",
    "special, almost": "[SE P] [SEP [MASK [CLS]]] [unused5] [\u200bSEP] [SEP\u0301]",
    "a mark after a special token": "[SEP]\u0301\u0323 x",
    "address": "https://www.example.com/a_b?c=d&e=%20f#g user.name+tag@mail.example.org",
    "code": "def f(x: int) -> str:\n    return f'{x!r:>10}' if x != 0 else \"\"",
    "numbers": "3.14159 1,000,000 1e-5 0xFF 12:30 2024-01-31 ١٢٣ १२३ Ⅷ ⅷ ①",
    "zalgo": "Z\u0351\u036b\u0343a\u0337\u0310\u0317l\u0489g\u0328\u031bo\u0336\u0353!",
}


BLOCKS = [
    (0x20, 0x7F), (0x20, 0x7F), (0x61, 0x7B), (0x00, 0x20), (0x80, 0x100), (0x100, 0x250),
    (0x300, 0x370), (0x370, 0x400), (0x400, 0x530), (0x590, 0x600), (0x600, 0x700),
    (0x900, 0xE00), (0xE00, 0x1000), (0x1100, 0x1200), (0x1A00, 0x1C00), (0x1DC0, 0x2000),
    (0x2000, 0x2070), (0x2070, 0x2C00), (0x3000, 0x3100), (0x3400, 0xA000), (0xA000, 0xAC00),
    (0xAC00, 0xD7B0), (0xE000, 0xE010), (0xF900, 0x10000), (0x10000, 0x12000),
    (0x1D100, 0x1D800), (0x1E000, 0x1E100), (0x1F000, 0x20000), (0x20000, 0x30000),
    (0xE0000, 0xE0200),
]  # fmt: skip
SNIPPETS = [
    "[SEP]",
    "[MASK]",
    "[CLS]",
    " ",
    " ",
    "\u0301",
    "\u0323",
    "\u302e",
    "the",
    "İ",
    "\u200d",
]


def random_text(rng: random.Random) -> str:
    blocks = rng.choices(BLOCKS, k=rng.randint(1, 4))
    parts = []
    for _ in range(rng.randint(0, 40)):
        if rng.random() < 0.15:
            parts.append(rng.choice(SNIPPETS))
        else:
            parts.append(chr(rng.randrange(*rng.choice(blocks))))
    return "".join(parts)
