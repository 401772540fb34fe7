"""tokens.mend_chat: a conversation as text, with four bugs that a model would suffer from."""

from collections.abc import Iterator

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals
from minift.text.chat import render_chat

SYSTEM = "You are a helpful assistant."
ROLES = ("user", "assistant")


def said(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    """User and assistant in turn, with a system message in front if there is one."""
    turns = [{"role": ROLES[i % 2], "content": text} for i, text in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system is not None else turns


def one() -> Iterator[Inputs]:
    yield {"messages": said("Hi"), "add_generation_prompt": True}
    yield {"messages": said("What is 2 + 2?"), "add_generation_prompt": True}


def with_system() -> Iterator[Inputs]:
    yield {"messages": said("Hi", system="Be brief."), "add_generation_prompt": True}
    yield {"messages": said("Hi", system=""), "add_generation_prompt": True}


def several() -> Iterator[Inputs]:
    yield {"messages": said("Hi", "Hello", "Bye"), "add_generation_prompt": True}


def for_training() -> Iterator[Inputs]:
    yield {"messages": said("Hi", "Hello"), "add_generation_prompt": False}
    yield {"messages": said("Hi", "Hello", system="Be kind."), "add_generation_prompt": False}


def spaces() -> Iterator[Inputs]:
    yield {"messages": said("  def f():\n"), "add_generation_prompt": True}
    yield {"messages": said("a", " b ", "\n"), "add_generation_prompt": False}


def mixed() -> Iterator[Inputs]:
    for seed in range(30):
        rng = draw(seed)
        contents = ["".join(rng.choices("ab \n", k=rng.randint(0, 8))) for _ in range(seed % 4 + 1)]
        system = rng.choice([None, "", " s"])
        yield {
            "messages": said(*contents, system=system),
            "add_generation_prompt": bool(seed % 2),
        }


exercise = Exercise(
    "tokens.mend_chat",
    "Debug: four bugs in a chat prompt",
    properties=(
        Equals("one question", one, "Compare it letter by letter with the contract."),
        Equals("the default only without a system message", with_system, "Look at the first role."),
        Equals("several turns", several, "Every turn ends in the same way."),
        Equals("no answer is begun unless asked for", for_training, "Training texts end as said."),
        Equals("contents stay as they are", spaces, "Spaces and line feeds belong to a text."),
        Equals("holds for random conversations", mixed, "Compare with the contract."),
    ),
    hints=(
        "Print `repr` of the result for one question, and put the contract's lines beside it: "
        "where do line feeds stand?",
        "Look at each use of an argument: is `add_generation_prompt` asked? Is the default put in "
        "when a system message is there already?",
        "The last bug changes what people wrote.",
    ),
)


@exercise.stub
def mend_chat(messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
    """A conversation in the ChatML format. This function has four bugs. Find and mend them.

    Each message becomes "<|im_start|>ROLE", a line feed, the content as it is, "<|im_end|>" and a
    line feed. If the first message is not from "system", one with the content "You are a helpful
    assistant." comes before it. With add_generation_prompt the text ends with
    "<|im_start|>assistant" and a line feed.
    """
    text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    for message in messages:
        text += f"<|im_start|>{message['role']}\n{message['content'].strip()}<|im_end|>"
    return text + "<|im_start|>assistant\n"


@exercise.solution
def solution(messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
    text = ""
    if messages[0]["role"] != "system":
        text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    for message in messages:
        text += f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
    if add_generation_prompt:
        text += "<|im_start|>assistant\n"
    return text


@exercise.reference
def by_template(messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
    start, end = "'<|im_start|>' ~", "~ '<|im_end|>\\n'"
    first = f"{{{{ {start} 'system\\n{SYSTEM}' {end} }}}}"
    template = (
        f"{{% if messages[0].role != 'system' %}}{first}{{% endif %}}"
        f"{{% for m in messages %}}{{{{ {start} m.role ~ '\\n' ~ m.content {end} }}}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {start} 'assistant\\n' }}}}{{% endif %}}"
    )
    return render_chat(template, messages, {"add_generation_prompt": add_generation_prompt})


exercise.slip(
    "always_the_default",
    'messages[0]["role"] != "system"',
    "messages",
    "The default system message is there although the conversation has one of its own.",
)
exercise.slip(
    "no_line_feed",
    "{message['content']}<|im_end|>\\n",
    "{message['content']}<|im_end|>",
    "A message ends with <|im_end|> and a line feed; the model has never seen it without.",
)
exercise.slip(
    "stripped",
    "{message['content']}",
    "{message['content'].strip()}",
    "`strip` takes spaces away that somebody wrote: indented code, for one, is then another text.",
)
exercise.slip(
    "always_begins_an_answer",
    "    if add_generation_prompt:",
    "    if messages:",
    "An answer is begun although nobody asked for one: check add_generation_prompt.",
)
exercise.slip(
    "ends_the_answer",
    '"<|im_start|>assistant\\n"',
    '"<|im_start|>assistant\\n<|im_end|>\\n"',
    "The answer that the model is to write has been ended already: it would say nothing.",
)
