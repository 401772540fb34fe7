"""Conversations as text: equal to ``transformers``' ``apply_chat_template``."""

from typing import Any

import pytest
from token_parity import Pair
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from minift.errors import InputError
from minift.text.bpe_tokenizer import BPETokenizer
from minift.text.bpe_training import train_bpe
from minift.text.char_tokenizer import CharTokenizer
from minift.text.huggingface import HuggingFaceTokenizer
from minift.text.tokenizer import Tokenizer

CHATML = (
    "{% for m in messages %}\n    {{- '<|im_start|>' + m['role'] + '\\n' + m['content'] | trim }}"
    "{{- '<|im_end|>\\n' }}\n{% endfor %}\n"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = """\
{{- bos_token }}
{%- set loop_messages = messages %}
{%- for message in loop_messages %}
    {%- set content = '<|start|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim %}
    {{- content + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>\\n\\n' }}
{%- endif %}
"""
MISTRAL = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] + '\\n\\n' %}{%- set turns = messages[1:] %}
{%- else %}
    {%- set system = '' %}{%- set turns = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in turns %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}
    {%- else %}
        {% generation %}{{- ' ' + message['content'] + eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
"""
ODD = """\
{%- set ns = namespace(n=0) %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}{% continue %}{% endif %}
    {%- if loop.index > 3 %}{% break %}{% endif %}
    {%- set ns.n = ns.n + 1 %}
    {{- ns.n ~ message | tojson ~ '\\n' }}
{%- endfor %}
{{- messages | length }}{{ tools is none }}{{ strftime_now('%Y') | length }}
{{- [3, 1, 2] | sort | join('-') }}{{ dict(a=1) | tojson(indent=1) }}{{ undefined_name }}
"""
TEMPLATES = {"ChatML": CHATML, "Llama 3": LLAMA3, "Mistral": MISTRAL, "odd": ODD}


def said(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in pairs]


SYSTEM = ("system", "Be brief.")
CHATS = {
    "one": said(("user", "Hello")),
    "system": said(SYSTEM, ("user", "Hello")),
    "turns": said(SYSTEM, ("user", " a\n"), ("assistant", "  b <|im_end|> "), ("user", "中 👍🏽")),
    "answered": said(("user", "<b>'\"&</b>"), ("assistant", "")),
    "more keys": [{"role": "user", "content": "x", "name": "Ann", "tool_calls": None, "n": [1, 2]}],
}


@pytest.fixture(scope="module")
def both() -> tuple[BPETokenizer, Any]:
    """Ours and ``transformers``' with the same vocabulary, which is not what is tested here."""
    special = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
    ours = train_bpe(["Hello there"] * 3, 270, special_tokens=special)
    ours.special_tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    from tokenizers import Tokenizer, models

    rust = Tokenizer(models.BPE(vocab=ours.vocab, merges=ours.merges))
    theirs = PreTrainedTokenizerFast(tokenizer_object=rust, bos_token="<s>", eos_token="</s>")
    return ours, theirs


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_templates(both: tuple[BPETokenizer, Any], template: str, chat: str, prompt: bool) -> None:
    ours, theirs = both
    ours.chat_template = theirs.chat_template = TEMPLATES[template]
    options = {"add_generation_prompt": prompt, "tokenize": False}
    right = theirs.apply_chat_template(CHATS[chat], **options)
    assert ours.apply_chat_template(CHATS[chat], **options) == right  # type: ignore[call-overload]
    assert right.strip()


@pytest.fixture(scope="module")
def smollm2_twice(smollm2: Pair, tmp_path_factory: Any) -> tuple[Tokenizer, Any]:
    folder = tmp_path_factory.mktemp("smollm2")
    smollm2.ours.save(folder)
    return smollm2.ours, AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("chat", CHATS)
def test_smollm2(smollm2_twice: tuple[Tokenizer, Any], chat: str, prompt: bool) -> None:
    ours, theirs = smollm2_twice
    for tokenize in (False, True):
        options: dict[str, Any] = {"add_generation_prompt": prompt, "tokenize": tokenize}
        right = theirs.apply_chat_template(CHATS[chat], return_dict=False, **options)
        assert ours.apply_chat_template(CHATS[chat], **options) == right
    adapter = HuggingFaceTokenizer(theirs)
    assert adapter.apply_chat_template(CHATS[chat]) == ours.apply_chat_template(CHATS[chat])


def test_messages_are_left_alone(both: tuple[BPETokenizer, Any]) -> None:
    ours, _ = both
    ours.chat_template = "{% for m in messages %}{{ m.update({'role': 'x'}) }}{% endfor %}"
    messages = said(("user", "a"))
    with pytest.raises(InputError, match="messages: the chat template refuses them"):
        ours.apply_chat_template(messages)  # the sandbox lets nothing be changed
    assert messages == said(("user", "a"))


WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ([], r"messages: \[\]; right would be a list of"),
    "a text": ("Hello", r"messages: 'Hello'; right would be a list of"),
    "one message": ({"role": "user", "content": "x"}, r"messages: \{'role'.*right would be a list"),
    "a list of texts": (["Hello"], r"messages\[0\]: str given; right would be a dict"),
    "no role": ([{"content": "x"}], r"messages\[0\]: 'role' is missing; right would be a str"),
    "role a number": ([{"role": 1, "content": "x"}], r"messages\[0\]: 'role' is 1; right would be"),
    "no content": (
        [*said(("user", "a")), {"role": "user", "contents": "b"}],
        r"messages\[1\]: 'content' is missing; right would be a str",
    ),
    "content None": ([{"role": "user", "content": None}], r"\[0\]: 'content' is None; right would"),
    "an object": (
        [{"role": "user", "content": "x", "image": object()}],
        r"s: not plain data",
    ),
    "wrong order": (said(("assistant", "a")), r"refuses them: Roles must alternate user/assist"),
}


@pytest.mark.parametrize("name", WRONG)
def test_malformed_messages(both: tuple[BPETokenizer, Any], name: str) -> None:
    ours, _ = both
    ours.chat_template = MISTRAL
    messages, pattern = WRONG[name]
    with pytest.raises(InputError, match=pattern) as caught:
        ours.apply_chat_template(messages)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "pattern"),
    [
        ("{% for m in messages %}", r"chat_template: not a Jinja template \(Unexpected end"),
        ("{{ messages | nofilter }}", r"chat_template: not a Jinja template \(No filter"),
        ("{{ messages[0]['content'] + 1 }}", r"messages: the chat template refuses them: can only"),
        ("{{ messages.__class__.__mro__ }}", r"refuses them: access to attribute '__class__'"),
        ("{{ a.b.c }}", r"refuses them: 'a' is undefined"),
    ],
)
def test_broken_templates(both: tuple[BPETokenizer, Any], template: str, pattern: str) -> None:
    ours, _ = both
    ours.chat_template = template
    with pytest.raises(InputError, match=pattern) as caught:
        ours.apply_chat_template(CHATS["one"])
    assert "\n" not in str(caught.value)


def test_no_template() -> None:
    with pytest.raises(InputError, match="chat_template: the tokenizer has none; right would be"):
        CharTokenizer.train("abc").apply_chat_template(CHATS["one"])
