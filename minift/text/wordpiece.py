"""WordPiece: a word is cut into the longest pieces that the vocabulary holds, from left to right.

Wu et al., "Google's Neural Machine Translation System" (2016), section 4.1, for the idea; Devlin
et al., "BERT" (2019), for this greedy form. Hugging Face: ``tokenizers.models.WordPiece``.
"""


class WordPiece:
    """Greedy longest-match-first cutting of one word.

    ``unaffable`` → ``una ##ffa ##ble``: the longest piece that starts the word, then again and
    again the longest piece, marked ``##``, that starts the rest.

    Args:
        vocab: token → id.
        unk_token: stands for a word that cannot be cut, or has more than ``max_chars`` characters.
        prefix: marks the pieces that continue a word.
    """

    def __init__(
        self,
        vocab: dict[str, int],
        unk_token: str = "[UNK]",
        prefix: str = "##",
        max_chars: int = 100,
    ) -> None:
        self.vocab, self.prefix, self.max_chars = vocab, prefix, max_chars
        self.unknown = vocab[unk_token]
        self.longest = max(map(len, vocab))

    def __call__(self, word: str) -> list[tuple[int, int, int]]:
        """``(id, start, end)`` of each piece; the whole word is unknown if one piece is."""
        pieces: list[tuple[int, int, int]] = []
        start = 0
        while start < len(word) <= self.max_chars:
            piece = self._longest_piece(word, start)
            if piece is None:
                break
            pieces.append(piece)
            start = piece[2]
        return pieces if start == len(word) else [(self.unknown, 0, len(word))]

    def _longest_piece(self, word: str, start: int) -> tuple[int, int, int] | None:
        prefix = self.prefix if start else ""
        for end in range(min(len(word), start + self.longest), start, -1):
            id_ = self.vocab.get(prefix + word[start:end])
            if id_ is not None:
                return id_, start, end
        return None
