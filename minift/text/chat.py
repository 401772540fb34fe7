"""Conversations as one text: the chat template of a model, filled in.

A chat model was trained on conversations written in one fixed way, for instance
``<|im_start|>user\\nHello<|im_end|>\\n``. The way is a Jinja template that comes with the
tokenizer. A template is somebody else's program, so it runs in Jinja's sandbox and sees plain data
only. Hugging Face: ``apply_chat_template``.
"""

import json
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, overload

from minift.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Template

Message = dict[str, Any]  # {"role": "user", "content": "Hello"}


class ChatMixin:
    """``apply_chat_template`` for a tokenizer that has a template and can encode."""

    chat_template: str | None
    special_tokens: dict[str, str]

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        raise NotImplementedError

    @overload
    def apply_chat_template(
        self,
        messages: list[Message],
        *,
        add_generation_prompt: bool = False,
        tokenize: Literal[True] = True,
    ) -> list[int]: ...
    @overload
    def apply_chat_template(
        self,
        messages: list[Message],
        *,
        add_generation_prompt: bool = False,
        tokenize: Literal[False],
    ) -> str: ...
    def apply_chat_template(
        self,
        messages: list[Message],
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
    ) -> list[int] | str:
        """A conversation as the ids, or as the text, that the model was trained on.

        Args:
            messages: ``{"role": …, "content": …}`` each, oldest first.
            add_generation_prompt: end with the beginning of the assistant's next answer.
            tokenize: False gives the text. The special tokens are in it already.

        Raises:
            InputError: no template; messages that are malformed or that the template refuses.
        """
        if self.chat_template is None:
            raise InputError(
                "chat_template: the tokenizer has none; right would be one that came with a chat "
                "model, or tokenizer.chat_template set to a Jinja template"
            )
        values = {**self.special_tokens, "add_generation_prompt": add_generation_prompt}
        text = render_chat(self.chat_template, messages, values)
        return self.encode(text, add_special_tokens=False) if tokenize else text


def render_chat(template: str, messages: list[Message], values: dict[str, Any]) -> str:
    """Fill a chat template in with messages and other values (``bos_token`` and the like).

    Raises:
        InputError: malformed messages; a template that is not Jinja or that refuses the messages.
    """
    compiled = _compiled(template)
    plain = check_messages(messages)
    try:
        return compiled.render(messages=plain, tools=None, documents=None, **values)
    except Exception as error:  # whatever somebody else's template raises
        raise InputError(f"messages: the chat template refuses them: {error}") from None


def check_messages(messages: object) -> list[Message]:
    """A copy of the messages in plain data (str, numbers, lists, dicts).

    Raises:
        InputError: names the first message that is not ``{"role": str, "content": str}``.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise InputError(
            f"messages: {messages!r:.60}; right would be a list of "
            '{"role": "user", "content": "..."}'
        )
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            given = type(message).__name__
            raise InputError(f"messages[{i}]: {given} given; right would be a dict")
        for key, kinds in (("role", str), ("content", str | list)):
            if not isinstance(message.get(key), kinds):
                found = repr(message[key]) if key in message else "missing"
                raise InputError(f"messages[{i}]: {key!r} is {found:.60}; right would be a str")
    try:
        return json.loads(json.dumps([_without_none(message) for message in messages]))
    except (TypeError, ValueError) as error:
        raise InputError(f"messages: not plain data ({error})") from None


def _without_none(message: Message) -> Message:
    """Many clients send ``"tool_calls": None``, which a template would print."""
    return {key: value for key, value in message.items() if value is not None}


@lru_cache(maxsize=16)
def _compiled(template: str) -> "Template":
    """The template in a sandbox with the functions that templates of the Hub expect.

    Raises:
        InputError: not a Jinja template.
    """
    from jinja2 import TemplateError, ext, nodes
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(ext.Extension):
        """``{% generation %} … {% endgeneration %}`` marks the assistant's words: printed as is."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = to_json  # Jinja's own escapes HTML
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    try:
        return environment.from_string(template)
    except (TemplateError, MemoryError, OverflowError, RecursionError) as error:
        why = str(error) or type(error).__name__
        raise InputError(f"chat_template: not a Jinja template ({why})") from None
