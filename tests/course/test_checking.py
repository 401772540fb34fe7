"""``check`` itself: its three outcomes, what it says, and inputs that are wrong in other ways."""

import re
from types import SimpleNamespace

import pytest
import torch

from minift.course import CheckFailed, check, examine, find
from minift.course.attempt import is_stub
from minift.course.exercise import Mistake
from minift.errors import InputError


def not_implemented(q, k):
    raise NotImplementedError


def not_implemented_with_words(q, k):
    """A contract."""
    raise NotImplementedError("later")


def dots(q, k): ...


def passes(q, k):
    pass


def returns_nothing(q, k):
    return None


def half_written(q, k):
    width = q.shape[-1]
    if width > 0:
        raise NotImplementedError
    return q


@pytest.mark.parametrize(
    "fn",
    [not_implemented, not_implemented_with_words, dots, passes, returns_nothing, half_written],
)
def test_a_stub_is_not_attempted_and_no_error(fn, capsys):
    check("attention.scores", fn)
    printed = capsys.readouterr().out
    assert printed.startswith("attention.scores: not attempted yet\n")
    assert 'hint("attention.scores")' in printed


def test_a_body_that_only_begins_like_a_stub_is_an_answer():
    def wordy(q, k):
        """A contract."""
        "A second string, and then work."
        return q @ k.mT

    assert examine("attention.scores", wordy).state == "wrong"


def test_a_stub_with_code_in_it_is_recognised_as_it_is():
    def given(x):
        """Contract."""
        y = x + 1
        return y * ...

    def untouched(x):
        y = x + 1
        return y * ...

    def begun(x):
        y = x + 2
        return y * ...

    exercise = SimpleNamespace(start=given)
    assert is_stub(exercise, untouched)
    assert not is_stub(exercise, begun)


def test_the_solution_has_no_part_in_judging(monkeypatch):
    exercise = find("attention.scores")
    right = exercise.answer
    monkeypatch.setattr(exercise, "answer", lambda q, k: q)
    assert examine("attention.scores", right).state == "right"


def test_a_test_suite_can_require_the_answer():
    with pytest.raises(CheckFailed, match="not attempted"):
        check("attention.scores", dots, required=True)
    check("attention.scores", find("attention.scores").answer, required=True)


def test_right_lists_what_was_verified(capsys):
    check("attention.scores", find("attention.scores").answer)
    assert capsys.readouterr().out == (
        "attention.scores: right\n"
        "  - equals q kᵀ / √D in fp64 (16 inputs)\n"
        "  - keeps the dtype: float64, float16, bfloat16 (48 inputs)\n"
        "  - has the right gradient (16 inputs)\n"
        "  - leaves its inputs as they were\n"
    )


def test_wrong_says_property_input_values_and_mistake():
    with pytest.raises(CheckFailed) as caught:
        check("attention.scores", lambda q, k: q @ k.mT)
    assert str(caught.value) == (
        "attention.scores: wrong\n"
        "  property equals q kᵀ / √D in fp64\n"
        "  input    q = float32 (1, 1, 1, 4) [[[[1, 2, 3, 4]]]], k = float32 (1, 1, 2, 4) [[[[2,\n"
        "           3, 4, 5], [6, 7, 8, 9]]]]\n"
        "  right    float32 (1, 1, 1, 2) [[[[20, 40]]]]\n"
        "  yours    float32 (1, 1, 1, 2) [[[[40, 80]]]]\n"
        "  mistake  The scores are not divided by √D: they grow with the head's width.\n"
        '  next     hint("attention.scores")'
    )
    assert caught.value._render_traceback_() == str(caught.value).splitlines()
    assert isinstance(caught.value, AssertionError)


def test_the_same_failure_prints_the_same_text():
    texts = {str(examine("attention.softmax", lambda s: s.exp())) for _ in range(3)}
    assert len(texts) == 1
    assert not re.search(r"0x[0-9a-f]{6}| at /|\d\.\d{7}", texts.pop())


def test_nothing_is_left_of_a_check_in_the_inputs_of_the_next():
    def spoils(q, k):
        q.fill_(7.0)
        return q @ k.mT

    first = examine("attention.scores", spoils)
    assert first.failure.claim == "leaves its inputs as they were"
    assert "[[[[7, 7, 7, 7]]]]" in first.failure.yours
    assert "[[[[1, 2, 3, 4]]]]" in first.failure.right
    assert examine("attention.scores", find("attention.scores").answer).state == "right"


def test_lists_changed_in_place_are_noticed():
    def pops(labels, word_ids):
        labels.append(0)
        return find("ner.align_labels").answer(labels, word_ids)

    assert "labels was changed" in examine("ner.align_labels", pops).failure.yours


def test_an_error_is_shown_with_its_line():
    def crashes(q, k):
        return q @ k

    failure = examine("attention.scores", crashes).failure
    assert failure.claim == "runs on every valid input"
    assert failure.yours.startswith("raised RuntimeError: ")
    assert failure.yours.endswith("at `return q @ k`")


def test_an_error_in_a_helper_is_shown_where_it_happened():
    def helper(x, y):
        return x + y.flatten()

    def crashes(q, k):
        return helper(q, k)

    failure = examine("attention.scores", crashes).failure
    assert failure.yours.endswith("at `return x + y.flatten()`")


@pytest.mark.parametrize(
    ("fn", "yours"),
    [
        (lambda q: q, "(q)"),
        (lambda q, k, v: q, "(q, k, v)"),
        ("not a function", "str, which is not a function"),
        (None, "NoneType, which is not a function"),
    ],
)
def test_what_cannot_be_called_as_agreed(fn, yours):
    failure = examine("attention.scores", fn).failure
    assert failure.claim == "takes the agreed arguments"
    assert failure.yours == yours


def test_a_result_that_cannot_be_shown():
    class Odd:
        def __repr__(self):
            raise ValueError("no words")

    failure = examine("attention.scores", lambda q, k: Odd()).failure
    assert "<Odd whose repr raises ValueError>" in failure.yours


@pytest.mark.parametrize("given", ["softmax", "softmx", "causal_mask", "attention.sofmax"])
def test_a_bare_topic_is_understood(given):
    wanted = "attention.causal_mask" if "mask" in given else "attention.softmax"
    with pytest.raises(InputError, match=f"did you mean '{wanted}'"):
        examine(given, print)


def test_arguments_in_another_order():
    def scores(k, q):
        return q @ k.mT * q.shape[-1] ** -0.5

    failure = examine("attention.scores", scores).failure
    assert failure.claim == "takes its arguments in the agreed order"
    assert (failure.yours, failure.right) == ("(k, q)", "(q, k)")
    assert "by position" in failure.mistake

    def works(k, q):  # the names are crossed, the positions are right
        return k @ q.mT * q.shape[-1] ** -0.5

    assert examine("attention.scores", works).state == "right"


def test_other_names_and_defaults_of_arguments_are_fine():
    def scores(query, key, scale=None):
        return query @ key.mT * (scale or query.shape[-1] ** -0.5)

    assert examine("attention.scores", scores).state == "right"


@pytest.mark.parametrize(
    ("fn", "claim", "yours", "right"),
    [
        (lambda q, k: (q @ k.mT).tolist(), None, "a list: [[[[40.0, 80.0]]]]", "a float32 tensor"),
        (
            lambda q, k: (q @ k.mT)[0],
            None,
            "float32 tensor of shape (1, 1, 2)",
            "shape (1, 1, 1, 2)",
        ),
        (lambda q, k: (q @ k.mT / 2).long(), None, "int64 tensor", "dtype float32"),
        (lambda q, k: (q @ k.mT / 2).tolist() and None, "returns a value", "None", "a value"),
        (
            lambda q, k: (q @ k.mT).to("meta"),
            None,
            "float32 tensor of shape (1, 1, 1, 2) on meta",
            "a tensor on cpu",
        ),
        (lambda q, k: (q @ k.mT).to_sparse(), None, "a sparse float32 tensor", "a float32 tensor"),
        (lambda q, k: (q @ k.mT).numpy(), None, "a NumPy array: array(", "a float32 tensor of"),
        (lambda q, k: (row for row in q @ k.mT), None, "a generator", "a float32 tensor of shape"),
        (lambda q, k: map(abs, q), None, "a map", "a float32 tensor of shape (1, 1, 1, 2)"),
        (lambda q, k: (q @ k.mT, q), None, "a tuple: (float32 (1, 1, 1, 2)", "a float32 tensor"),
        (object, "takes the agreed arguments", "", "(q, k)"),
    ],
)
def test_type_shape_and_dtype_have_their_own_words(fn, claim, yours, right):
    failure = examine("attention.scores", fn).failure
    assert failure.claim == (claim or "equals q kᵀ / √D in fp64")
    assert failure.yours.startswith(yours)
    assert failure.right.startswith(right)


@pytest.mark.parametrize(
    ("fn", "sentence"),
    [
        (lambda q, k: (q @ k.mT).to("meta"), "without the input's device"),
        (lambda q, k: (row for row in q @ k.mT), "Return the values themselves: `list(…)`"),
        (lambda q, k: (q @ k.mT).tolist(), "not of the type that the docstring names"),
        (lambda q, k: (q @ k.mT)[0], "not of the shape that the docstring names"),
        (lambda q, k: (q @ k.mT / 2).double(), "A step changed the dtype"),
    ],
)
def test_each_aspect_has_a_sentence(fn, sentence):
    assert sentence in examine("attention.scores", fn).failure.mistake


@pytest.mark.filterwarnings("error")
def test_a_function_under_async_is_never_run():
    async def scores(q, k):
        return q @ k.mT

    failure = examine("attention.scores", scores).failure
    assert (failure.yours, failure.right) == ("async def", "def")
    assert "a plain `def`" in failure.mistake


def test_lists_are_not_taken_for_generators():
    answer = find("ner.align_labels").answer
    failure = examine("ner.align_labels", lambda *given: iter(answer(*given))).failure
    assert (failure.yours, failure.right) == ("a list_iterator", "a list")
    assert "`list(…)`" in failure.mistake
    assert examine("ner.align_labels", lambda *given: list(answer(*given))).state == "right"


def test_an_object_is_shown_without_its_address():
    failure = examine("attention.scores", lambda q, k: object()).failure
    assert failure.yours == "an object: <object object>"


def test_what_a_function_prints_is_shown_once_and_short(capsys):
    def scores(q, k):
        print("shape", tuple(q.shape))
        return find("attention.scores").answer(q, k)

    check("attention.scores", scores)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["printed while it was checked:", "  shape (1, 1, 1, 4)"]
    assert re.fullmatch(r"  … and \d\d more lines", lines[9])
    assert lines[10] == "attention.scores: right"


def test_what_a_wrong_function_prints_comes_before_what_is_wrong(capsys):
    def scores(q, k):
        print("x" * 100_000)
        return q

    with pytest.raises(CheckFailed):
        check("attention.scores", scores)
    printed = capsys.readouterr().out
    assert printed.startswith("printed while it was checked:\n  xxx")
    assert len(printed) < 1000


def test_printing_in_place_of_returning_is_named():
    def scores(q, k):
        print(q @ k.mT)

    failure = examine("attention.scores", scores).failure
    assert failure.claim == "returns a value"
    assert failure.mistake == "The result is printed and then lost: `return` it."


def test_a_forgotten_return_is_told_apart_from_a_stub():
    def forgets(q, k):
        q @ k.mT / q.shape[-1] ** 0.5

    failure = examine("attention.scores", forgets).failure
    assert failure.claim == "returns a value"
    assert failure.mistake.startswith("There is no `return`")


@pytest.mark.parametrize(
    "cut", [torch.Tensor.detach, lambda x: torch.tensor(x.tolist(), dtype=x.dtype)]
)
def test_values_that_leave_autograd_are_noticed(cut):
    answer = find("attention.split_heads").answer
    failure = examine("attention.split_heads", lambda x, n: cut(answer(x, n))).failure
    assert failure.claim == "has the right gradient"
    assert "left autograd" in failure.mistake


def test_a_wrong_gradient_behind_right_values_is_noticed():
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    answer = find("attention.scores").answer
    outcome = examine("attention.scores", lambda q, k: Doubled.apply(answer(q, k)))
    assert outcome.failure.claim == "has the right gradient"
    assert len(outcome.verified) == 2


def test_a_slightly_wrong_number_is_noticed():
    answer = find("attention.scores").answer
    assert examine("attention.scores", lambda q, k: answer(q, k) * 1.00001).state == "wrong"


def test_a_mistake_that_shows_elsewhere_is_not_blamed_for_rounding():
    """In fp32, 40 ulps off is close to every function that is right there, `.float()` or not."""
    answer = find("attention.scores").answer
    failure = examine("attention.scores", lambda q, k: answer(q, k) * (1 + 40 * 2**-23)).failure
    assert failure.mistake == find("attention.scores").properties[0].mistake


def test_when_two_mistakes_look_alike_neither_is_named(monkeypatch):
    exercise = find("attention.scores")
    twin = Mistake("twin", exercise.mistakes[0].fn, "Another sentence.")
    monkeypatch.setattr(exercise, "mistakes", [twin, *exercise.mistakes])
    failure = examine("attention.scores", exercise.mistakes[0].fn).failure
    assert failure.mistake == exercise.properties[0].mistake


def test_one_wrong_element_among_many_is_located():
    def almost(queries, keys):
        mask = find("attention.causal_mask").answer(queries, keys)
        mask[-1, 0] = mask[-1, 0] ^ (keys > 20)
        return mask

    failure = examine("attention.causal_mask", almost).failure
    assert failure.given == "queries = 64, keys = 64"
    assert failure.yours == "False at [63, 0] of bool tensor of shape (64, 64)"
    assert failure.right == "True"


def test_a_learner_cannot_reach_the_expected_values_through_the_inputs():
    """Each run gets its own copies: what is kept from one is no use in the next."""
    seen = []

    def keeps(q, k):
        seen.append((q, k))
        return find("attention.scores").answer(q, k)

    examine("attention.scores", keeps)
    assert len({q.data_ptr() for q, _ in seen}) == len(seen)


def test_an_unknown_exercise_is_an_input_error():
    with pytest.raises(InputError, match=r"exercise: unknown 'attention\.score'"):
        check("attention.score", dots)
