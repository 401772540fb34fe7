"""Every exercise: the stub is not attempted, the solution is right, each wrong answer is named."""

import ast
import inspect
from dataclasses import replace

import pytest

from minift.course import find, names
from minift.course.audit import audit, totals
from minift.course.exercise import plain
from minift.course.help import Source, hint, solution
from minift.errors import InputError

FIRST = [
    "attention.causal_mask", "attention.scores", "attention.softmax", "attention.split_heads",
    "kernels.adamw_step", "kernels.vector_add", "ner.align_labels", "ner.entities", "ner.f1",
    "start.next_word",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_hints_given_yet(monkeypatch):
    monkeypatch.setattr("minift.course.help._given", {})


def test_the_first_exercises_are_there():
    assert set(FIRST) <= set(names())
    assert names() == sorted(names())


@pytest.mark.parametrize("name", names())
def test_audit(name):
    rows = list(audit([name]))
    assert [row.answer for row in rows[:2]] == ["stub", "solution"]
    assert len(rows) >= 6
    assert rows[-1].answer == "solution, other inputs"
    slipped = [(row.answer, row.state, row.said) for row in rows if not row.ok]
    assert slipped == []


def test_the_audits_totals_count_what_was_judged_wrongly():
    rows = list(audit(["ner.f1"]))
    wrong = len(rows) - 3
    fine = f"stubs 1/1, solutions 1/1, on other inputs 1/1, wrong answers named {wrong}/{wrong}; "
    assert totals(rows).startswith(fine)
    slipped = [replace(row, ok=row.answer == "stub") for row in rows]
    assert f"solutions 0/1, on other inputs 0/1, wrong answers named 0/{wrong}" in totals(slipped)


def test_the_second_run_of_a_solution_has_other_inputs(monkeypatch):
    exercise = find("attention.scores")
    seen = []

    def spy(q, k):
        seen.append(q.double().sum().item())
        return right(q, k)

    right = exercise.answer
    monkeypatch.setattr(exercise, "answer", spy)
    rows = list(audit(["attention.scores"]))
    assert all(row.ok for row in rows)
    half = len(seen) // 2
    assert len(set(seen[half:]) - set(seen[:half])) > half // 2


@pytest.mark.parametrize("name", names())
def test_an_exercise_is_complete(name):
    exercise = find(name)
    assert exercise.name == name
    assert exercise.function == name.rpartition(".")[2]
    assert len({mistake.sentence for mistake in exercise.mistakes}) >= 3
    assert len(exercise.hints) >= 2
    assert inspect.getdoc(plain(exercise.start)), "the stub has no contract"
    stub, answer = (inspect.signature(plain(f)) for f in (exercise.start, exercise.answer))
    assert list(stub.parameters) == list(answer.parameters)
    for sentence in [*(m.sentence for m in exercise.mistakes), *exercise.hints]:
        assert sentence.rstrip("?")[-1] in ".?:'" or sentence.endswith("?"), sentence


@pytest.mark.parametrize("name", names())
def test_sources_are_what_a_learner_reads(name):
    exercise = find(name)
    for text in (exercise.stub_source(), exercise.solution_source()):
        functions = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)]
        assert [f.name for f in functions] == [exercise.function]
        assert "exercise." not in text
    assert exercise.stub_source() != exercise.solution_source()


def test_functions_have_one_name_each():
    topics = [name.rpartition(".")[2] for name in names()]
    assert len(topics) == len(set(topics))


def test_hints_come_in_steps_and_begin_again(capsys):
    hints = find("ner.f1").hints
    for _ in range(len(hints) + 1):
        hint("ner.f1")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"Hint 1 of 3: {hints[0]}"
    assert printed[2] == f"Hint 3 of 3: {hints[2]}"
    assert printed[3] == 'That was the last hint. One right answer: solution("ner.f1")'
    assert printed[4] == printed[0]


def test_hints_of_two_exercises_do_not_mix(capsys):
    for name in ("ner.entities", "ner.entities", "ner.align_labels", "ner.entities"):
        hint(name)
    steps = [line[:6] for line in capsys.readouterr().out.splitlines() if line[:4] == "Hint"]
    assert steps == ["Hint 1", "Hint 2", "Hint 1", "Hint 3"]


def test_an_edition_without_hints_says_so(capsys, monkeypatch):
    monkeypatch.setattr(find("ner.f1"), "hints", ())
    hint("ner.f1")
    assert capsys.readouterr().out == "ner.f1: this edition of the course has no hints\n"


def test_solution_is_source_that_a_notebook_shows_as_code():
    text = solution("attention.scores")
    assert isinstance(text, Source)
    assert text.startswith("def scores(q: Tensor, k: Tensor) -> Tensor:")
    assert text._repr_markdown_().startswith("```python\ndef scores(")


@pytest.mark.parametrize("call", [find, hint, solution])
def test_an_unknown_exercise_is_named_with_the_nearest(call):
    with pytest.raises(InputError, match=r"did you mean 'attention\.causal_mask'\?"):
        call("attention.casual_mask")


def test_a_slip_must_fit_the_solution_exactly_once():
    exercise = find("kernels.vector_add")
    with pytest.raises(ValueError, match="not in the solution just once"):
        exercise.slip("never", "offsets", "lanes", "offsets occurs several times.")
