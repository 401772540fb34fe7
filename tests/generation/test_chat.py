"""A conversation: what the model sees at each turn, what it forgets, and what stays."""

import pytest
import torch
from tiny_gpt2 import hf_gpt2
from tiny_tokenizers import byte_level

import minift
from minift.errors import InputError
from minift.generation.chat import Chat


class Marked:
    """Byte-level tokens; each message is ``<role>content|``, the answer begins with ``<a>``."""

    chat_template = "written in Python"
    eos_token_id = 0
    cleans_up_spaces = False

    def __init__(self):
        self.seen = []
        self.decode = byte_level().decode

    def apply_chat_template(self, messages, *, add_generation_prompt):
        assert add_generation_prompt
        self.seen.append([dict(message) for message in messages])
        text = "".join(f"<{m['role'][0]}>{m['content']}|" for m in messages)
        return byte_level().encode(text + "<a>")


@pytest.fixture
def chat():
    hf = hf_gpt2(vocab_size=len(byte_level()), n_positions=60, pad_token_id=1)
    return Chat(minift.from_hf(hf), Marked(), system="be")


def test_each_turn_sees_the_turns_before(chat):
    answers = []
    for question in ("the cat", "the dog"):
        answers.append("".join(chat.reply(question, max_new_tokens=5)))
        ids = torch.tensor([byte_level().encode(text_of(chat.tokenizer.seen[-1]))])
        wanted = chat.model.generate(ids, max_new_tokens=5, eos_token_id=0)[0, ids.shape[1] :]
        assert answers[-1] == byte_level().decode(wanted, skip_special_tokens=True)
    roles = ["user", "assistant", "user", "assistant"]
    contents = ["the cat", answers[0], "the dog", answers[1]]
    said = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
    assert chat.messages == said
    assert chat.tokenizer.seen[-1] == [{"role": "system", "content": "be"}, *said[:3]]


def text_of(messages):
    return "".join(f"<{m['role'][0]}>{m['content']}|" for m in messages) + "<a>"


def test_the_oldest_turns_are_forgotten(chat):
    for turn in range(8):
        "".join(chat.reply(f"the cat {turn}", max_new_tokens=8))
        seen = chat.tokenizer.seen[-1]
        assert seen[0] == {"role": "system", "content": "be"}
        assert [m["role"] for m in seen[1:]] == ["user", "assistant"] * (len(seen) // 2 - 1) + [
            "user"
        ]
        assert seen[-1]["content"] == f"the cat {turn}"
        assert len(byte_level().encode(text_of(seen))) + 8 <= 60
        assert chat.forgotten + len(chat.messages) == 2 * (turn + 1)
    assert chat.forgotten > 4
    assert len(chat.messages) > 2  # no more than needed


def test_long_answers_leave_half_of_the_positions_to_the_conversation():
    hf = hf_gpt2(vocab_size=len(byte_level()), n_positions=120)
    chat = Chat(minift.from_hf(hf), Marked())
    "".join(chat.reply("a", max_new_tokens=3))
    chat.reply("b", max_new_tokens=119)
    assert chat.tokenizer.seen[-1][0]["content"] == "a"
    assert chat.forgotten == 0


def test_a_long_question_gets_a_short_answer(chat):
    question = "x" * 40
    room = 60 - len(
        byte_level().encode(text_of([*chat.system, {"role": "u", "content": question}]))
    )
    answer = "".join(chat.reply(question, max_new_tokens=50))
    assert 0 < room < 15
    assert len(byte_level().encode(answer)) <= room


def test_a_question_that_does_not_fit_changes_nothing(chat):
    "".join(chat.reply("the cat", max_new_tokens=5))
    before = [dict(message) for message in chat.messages]
    with pytest.raises(InputError, match="more than the model's 60 positions leave room for"):
        chat.reply("x" * 60, max_new_tokens=5)
    assert chat.messages == before
    assert chat.forgotten == 0
    with pytest.raises(InputError, match="top_p: 7"):
        chat.reply("the", top_p=7)
    assert chat.messages == before


def test_an_answer_that_is_broken_off_is_remembered_as_far_as_it_came(chat):
    pieces = chat.reply("the cat", max_new_tokens=20)
    said = next(pieces)
    pieces.close()
    assert chat.messages[-1] == {"role": "assistant", "content": said}


def test_either_end_ends_an_answer():
    """The model's EOS, and the tokenizer's."""
    tokenizer = Marked()
    ids = torch.tensor([byte_level().encode("<u>the|<a>")])
    free = minift.from_hf(hf_gpt2(vocab_size=len(byte_level()))).generate(ids)[0, ids.shape[1] :]
    for in_model, in_tokenizer in ((int(free[6]), None), (5, int(free[6])), ([5, int(free[6])], 5)):
        hf = hf_gpt2(vocab_size=len(byte_level()), eos_token_id=in_model)
        tokenizer.eos_token_id = in_tokenizer
        answer = "".join(Chat(minift.from_hf(hf), tokenizer).reply("the"))
        end = free.tolist().index(int(free[6]))
        assert answer == byte_level().decode(free[: end + 1], skip_special_tokens=True)


def test_without_a_template():
    with pytest.raises(InputError) as caught:
        Chat(minift.from_hf(hf_gpt2()), byte_level())
    right = "model: its tokenizer has no chat template; right: a chat model, or `generate`"
    assert str(caught.value) == right
