"""Words: the normalised text is split at white space, and every punctuation mark is a word."""

from minift.text.normalize import Aligned
from minift.text.unicode_tables import PUNCTUATION, WHITESPACE

# Only a normaliser without clean-up lets these three through to here.
SEPARATORS = WHITESPACE | frozenset("\x0b\x0c\x85")


def split_words(text: Aligned) -> list[Aligned]:
    """The words of a normalised text (``tokenizers.pre_tokenizers.BertPreTokenizer``)."""
    words: list[Aligned] = []
    word: Aligned = []
    for item in text:
        is_space, is_mark = item[0] in SEPARATORS, item[0] in PUNCTUATION
        if not (is_space or is_mark):
            word.append(item)
            continue
        if word:
            words.append(word)
            word = []
        if is_mark:
            words.append([item])
    return [*words, word] if word else words
