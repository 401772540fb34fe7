"""Bytes as printable characters: how the files of a byte-level vocabulary write their tokens.

A byte-level tokenizer works on the 256 bytes of UTF-8, so no text is unknown to it. Its files are
text, though, and a space or a line feed would be unreadable there. So every byte has a visible
character: 188 of them their own in Latin-1 (``!`` to ``~``, ``¡`` to ``¬``, ``®`` to ``ÿ``), the
other 68 the characters from U+0100 on, in order. A space becomes ``Ġ``, a line feed ``Ċ``.

Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2, for
byte-level BPE. Hugging Face: ``tokenizers.pre_tokenizers.ByteLevel.alphabet``.
"""

_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]

CHARACTER_OF = {byte: chr(byte) for byte in _VISIBLE}
CHARACTER_OF |= {byte: chr(0x100 + i) for i, byte in enumerate(_HIDDEN)}
BYTE_OF = {char: byte for byte, char in CHARACTER_OF.items()}

# All 256, by code point: the order in which a vocabulary lists them.
ALPHABET = sorted(BYTE_OF)


def to_characters(text: str) -> str:
    """The UTF-8 bytes of a text, one visible character each: ``é x`` → ``Ã©Ġx``."""
    return text.encode("utf-8").decode("latin-1").translate(CHARACTER_OF)


def to_bytes(token: str) -> bytes:
    """The bytes that a token of the vocabulary stands for.

    A token with a character that stands for no byte was added by hand: it means its own text.
    """
    try:
        return bytes([BYTE_OF[char] for char in token])
    except KeyError:
        return token.encode("utf-8")
