"""A conversation: messages, the model's chat template, and answers as they are written."""

from collections.abc import Iterator
from typing import Any

from minift.errors import InputError
from minift.generation.generate import trained_positions
from minift.generation.settings import GenerationSettings
from minift.generation.streaming import stream

Message = dict[str, str]


class Chat:
    """A conversation with a model that was trained on them.

    The whole of it goes through the model at every turn, so that it has to fit into the model's
    positions: when it does not, the oldest question and its answer are forgotten. The system
    message stays.

    Args:
        system: an instruction that stands before the conversation; ``None``: the template's own.

    Raises:
        InputError: a tokenizer without a chat template.
    """

    def __init__(self, model: Any, tokenizer: Any, system: str | None = None) -> None:
        if getattr(tokenizer, "chat_template", None) is None:
            raise InputError(
                "model: its tokenizer has no chat template; right: a chat model, or `generate`"
            )
        self.model, self.tokenizer = model, tokenizer
        self.system: list[Message] = []
        if system is not None:
            self.system = [{"role": "system", "content": system}]
        self.messages: list[Message] = []
        self.forgotten = 0
        """Messages that no longer fitted, in all."""

    def reply(self, question: str, **options: Any) -> Iterator[str]:
        """The answer, piece by piece. What was taken from the iterator is remembered as said.

        ``options`` are those of ``generate``. Where the positions that are left are fewer than
        ``max_new_tokens``, the answer is shorter.

        Raises:
            InputError: as ``stream``; a question that is too long on its own. The conversation is
                then as before.
        """
        before = list(self.messages)
        self.messages.append({"role": "user", "content": question})
        try:
            ids, options = self._fitted(options)
            pieces = stream(self.model, self.tokenizer, ids, **options)
        except InputError:
            self.messages = before
            raise
        self.forgotten += len(before) + 1 - len(self.messages)
        answer = {"role": "assistant", "content": ""}
        self.messages.append(answer)
        return self._remembered(pieces, answer)

    def _remembered(self, pieces: Iterator[str], answer: Message) -> Iterator[str]:
        for piece in pieces:
            answer["content"] += piece
            yield piece

    def _fitted(self, options: dict[str, Any]) -> tuple[list[int], dict[str, Any]]:
        """The ids of what still fits, and the options with a number of new tokens that does."""
        options = {"eos_token_id": self._ends(), **options}
        wanted = GenerationSettings.read(options, self.model.config).max_new_tokens
        most = trained_positions(self.model)
        room = min(wanted, most // 2)  # else one long answer would forget the whole conversation
        while len(ids := self._ids()) + room > most and len(self.messages) > 1:
            del self.messages[:2]  # a question and its answer
        if len(ids) >= most:
            raise InputError(
                f"message: {len(ids)} tokens with the template are more than the model's {most} "
                "positions leave room for; right: a shorter one"
            )
        return ids, {**options, "max_new_tokens": min(wanted, most - len(ids))}

    def _ids(self) -> list[int]:
        messages = self.system + self.messages
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)

    def _ends(self) -> list[int]:
        """The model's EOS tokens, and the tokenizer's: a chat turn ends with either."""
        eos = GenerationSettings.read({}, self.model.config).eos_token_id
        also = self.tokenizer.eos_token_id
        return list(dict.fromkeys(eos if also is None else (*eos, also)))
