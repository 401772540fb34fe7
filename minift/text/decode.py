"""From tokens back to text."""

# Hugging Face's WordPiece decoder and its ``clean_up_tokenization`` differ in one entry.
_CLOSE_UP = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def join_pieces(tokens: list[str], prefix: str = "##") -> str:
    """Glue pieces to words and words with spaces (``tokenizers.decoders.WordPiece``)."""
    parts = []
    for i, token in enumerate(tokens):
        if i:
            token = token.replace(prefix, "", 1) if token.startswith(prefix) else " " + token
        parts.append(clean_up(token).replace(" do not", " don't"))
    return "".join(parts)


def clean_up(text: str) -> str:
    """Close up punctuation: no space before ``.``, ``?``, ``n't`` and the like."""
    for spaced in _CLOSE_UP:
        text = text.replace(spaced, spaced.strip())
    return text
