"""Text from ids that come one at a time, as a model writes them."""

from minift.errors import InputError
from minift.text.tokenizer import Tokenizer

HALF = "\ufffd"  # what decoding makes of bytes that are not yet, or never will be, a character


class TextStream:
    """Ids in, pieces of text out; joined, they are what ``decode`` makes of all ids at once.

    A byte-level token can end inside a character: ``é`` has two bytes, an emoji four, and nothing
    says that they stay together. So a piece is given out only when the text does not end in the
    middle of one; what never becomes a character comes at the end. Only the ids since the last
    such place are decoded again, so that n ids take about n steps.

    Hugging Face: ``tokenizers.decoders.DecodeStream``, which keeps the rest for itself.

    Args:
        tokenizer: any tokenizer that does not clean up spaces after decoding.
        skip_special_tokens: as in ``decode``.

    Raises:
        InputError: the tokenizer cleans up, so that later ids change earlier text.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = False) -> None:
        if tokenizer.cleans_up_spaces:
            raise InputError(
                "tokenizer: it removes spaces from text that was given out already; right would "
                "be clean_up_tokenization_spaces=false in its tokenizer_config.json"
            )
        self._tokenizer, self._skip = tokenizer, skip_special_tokens
        self._shown: list[int] = []  # decoded again for what it does to the ids after it
        self._waiting: list[int] = []

    def push(self, id_: int) -> str:
        """The text that is certain after one more id; often a piece of a word, maybe nothing."""
        self._waiting.append(id_)
        text = self._text()
        return "" if text.endswith(HALF) else self._give(text)

    def finish(self) -> str:
        """What is left: bytes that no id completed to a character, as U+FFFD."""
        return self._give(self._text())

    def _text(self) -> str:
        before = self._tokenizer.decode(self._shown, self._skip)
        return self._tokenizer.decode(self._shown + self._waiting, self._skip)[len(before) :]

    def _give(self, text: str) -> str:
        if text:
            self._shown, self._waiting = self._waiting, []
        return text
