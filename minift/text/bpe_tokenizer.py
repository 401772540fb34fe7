"""GPT-2's kind of tokenizer, from text to ids and back.

text → added tokens cut out → words → bytes → merged pairs → ids
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from minift.text.added_tokens import AddedToken, AddedTokenFinder
from minift.text.base import BaseTokenizer, Settings
from minift.text.bpe import BPE
from minift.text.bpe_split import Splitter
from minift.text.byte_level import CHARACTER_OF, to_bytes
from minift.text.checks import check_text
from minift.text.tokenizer import Encoding
from minift.text.unicode_tables import WHITESPACE

# Words repeat: of a long text, one word in thirty has to be merged, the others are remembered.
CACHE_SIZE = 100_000
CACHE_LONGEST = 50

_SPACES = CHARACTER_OF[0x20] + "".join(sorted(WHITESPACE)) + "\x0b\x0c\x85"  # in added tokens


@dataclass(frozen=True, kw_only=True)
class BPEConfig(Settings):
    """Everything that the files of a byte-level BPE tokenizer say, apart from the merges.

    Attributes:
        split_digits: every digit is a word of its own.
        add_prefix_space: put a space before a text that does not begin with one.
        trim_offsets: offsets leave white space at the ends of a token out.
        ignore_merges: a word that is in the vocabulary is one token, whatever the merges say.
        add_bos_token, add_eos_token: special tokens that ``encode`` puts around a text.
    """

    split_digits: bool = False
    add_prefix_space: bool = False
    trim_offsets: bool = False
    ignore_merges: bool = False
    add_bos_token: bool = False
    add_eos_token: bool = False


class BPETokenizer(BaseTokenizer):
    """Byte-level BPE, equal to ``transformers.GPT2Tokenizer`` in ids, tokens and offsets.

    A byte that the vocabulary lacks vanishes, as in Hugging Face's library (SmolLM2 lacks 21 of
    the 256: control characters, and lead bytes that hardly any text has). Offsets after it stay
    right here; the library's are off.

    Args:
        vocab: token → id; tokens are written in the characters of ``byte_level``.
        merges: pairs of tokens, in the order in which they were learnt.
        config: the special tokens and the switches.

    Raises:
        InputError: a merge of tokens that the vocabulary lacks.
    """

    config: BPEConfig

    def __init__(
        self,
        vocab: dict[str, int],
        merges: Sequence[tuple[str, str]],
        config: BPEConfig | None = None,
    ) -> None:
        config = config or BPEConfig()
        super().__init__(vocab, config)
        self.merges = list(merges)
        self._merge = BPE(vocab, self.merges)
        self._split = Splitter(config.split_digits)
        self._id_of_byte = {b: vocab[char] for b, char in CHARACTER_OF.items() if char in vocab}
        self._bytes_of = {id_: to_bytes(token) for token, id_ in vocab.items()}
        self._bytes_of |= {t.id: t.content.encode() for t in config.added_tokens}
        # Tokens that are looked for in the normalised text come second; here it is the same text.
        self._finders = [
            AddedTokenFinder({t.content: t for t in config.added_tokens if t.normalized is later})
            for later in (False, True)
        ]
        self._cache: dict[str, list[int]] = {}

    # -- text to pieces -------------------------------------------------------------------------

    def _parts(self, text: str) -> Iterator[tuple[int, str, AddedToken | None]]:
        """``(start, part, token)`` of the added tokens in a text and what is between them."""
        check_text(text)
        first, second = self._finders
        for start, end, token in first.cut(text):
            if token is not None:
                yield start, text[start:end], token
                continue
            for a, b, later in second.cut(text[start:end]):
                yield start + a, text[start + a : start + b], later

    def _words(self, part: str) -> tuple[list[str], int]:
        """The words of a stretch of text, and how many spaces were put before it."""
        prefix = " " if self.config.add_prefix_space and not part.startswith(" ") else ""
        return self._split(prefix + part), len(prefix)

    def _cut(self, word: str) -> list[int]:
        """The ids of a word."""
        ids = self._cache.get(word)
        if ids is None:
            ids = self._cut_new(word.encode("utf-8"))
            if len(word) <= CACHE_LONGEST:
                if len(self._cache) >= CACHE_SIZE:
                    self._cache.clear()
                self._cache[word] = ids
        return ids

    def _cut_new(self, word: bytes) -> list[int]:
        if self.config.ignore_merges:
            whole = self.vocab.get("".join([CHARACTER_OF[byte] for byte in word]))
            if whole is not None:
                return [whole]
        known = self._id_of_byte
        return self._merge([known[byte] for byte in word if byte in known])

    def _plain_ids(self, text: str) -> list[int]:
        ids: list[int] = []
        for _, part, token in self._parts(text):
            if token is not None:
                ids.append(token.id)
                continue
            for word in self._words(part)[0]:
                ids += self._cut(word)
        return ids

    def _pieces(self, text: str) -> Iterator[tuple[int, int, Encoding]]:
        for begin, encoding in self._words_cut(text):
            if self.config.trim_offsets:
                places = zip(encoding.tokens, encoding.offsets, strict=True)
                encoding.offsets[:] = [self._trimmed(token, begin, *span) for token, span in places]
            yield begin, 1, encoding

    def _words_cut(self, text: str) -> Iterator[tuple[int, Encoding]]:
        for begin, part, token in self._parts(text):
            if token is not None:
                yield begin, Encoding([token.id], [part], [(0, len(part))], [0])
                continue
            words, added = self._words(part)
            begin -= added
            for word in words:
                yield begin, self._encoding(word, added)
                begin += len(word)
                added = 0

    def _encoding(self, word: str, added: int) -> Encoding:
        """The pieces of a word, of whose characters the first ``added`` are not in the text."""
        ids = self._cut(word)
        tokens = [self._token_of[id_] for id_ in ids]
        offsets = self._spans(word, ids)
        if added:  # the space that was put before belongs to the first character
            offsets = [(max(start, added), max(end, added + 1)) for start, end in offsets]
        return Encoding(ids, tokens, offsets, [0] * len(ids))

    def _trimmed(self, token: str, begin: int, start: int, end: int) -> tuple[int, int]:
        """A token's span without the spaces at its ends; the one that was put before has none."""
        leading = len(token) - len(token.lstrip(_SPACES))
        if leading == 1 and self.config.add_prefix_space and begin + start == 0:
            leading = 0
        start = min(start + leading, end)
        return start, max(end - len(token) + len(token.rstrip(_SPACES)), start)

    def _spans(self, word: str, ids: list[int]) -> list[tuple[int, int]]:
        """From the pieces' lengths in bytes to their spans in characters; part of one is all."""
        ends = list(accumulate(len(self._bytes_of[id_]) for id_ in ids))
        starts = [0, *ends][:-1]
        if word.isascii() and ends and ends[-1] == len(word):
            return list(zip(starts, ends, strict=True))
        known = self._id_of_byte  # the place in the word of every byte that has not vanished
        place = [i for i, char in enumerate(word) for byte in char.encode() if byte in known]
        return [(place[start], place[end - 1] + 1) for start, end in zip(starts, ends, strict=True)]

    # -- what users call ------------------------------------------------------------------------

    def frame(
        self, first: list[int], second: list[int] | None = None
    ) -> tuple[list[int], list[int]]:
        """The ids, between the special tokens that ``add_bos_token``, ``add_eos_token`` ask for."""
        before, after = self._around()
        ids = [*before, *first, *after]
        types = [0] * len(ids)
        if second is not None:
            ids += [*before, *second, *after]
            types += [1] * (len(ids) - len(types))
        return ids, types

    def _around(self) -> tuple[list[int], list[int]]:
        config = self.config
        bos = [self.bos_token_id] if config.add_bos_token and self.bos_token_id is not None else []
        eos = [self.eos_token_id] if config.add_eos_token and self.eos_token_id is not None else []
        return bos, eos

    def _join(self, ids: list[int]) -> str:
        """Bytes put together, then read as UTF-8; what is not UTF-8 becomes U+FFFD."""
        return b"".join([self._bytes_of[id_] for id_ in ids]).decode("utf-8", errors="replace")

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write tokenizer.json, vocab.json, merges.txt, tokenizer_config.json, chat_template.jinja.

        The template only if there is one.
        """
        from minift.text.bpe_writer import write_bpe

        write_bpe(self, folder)
