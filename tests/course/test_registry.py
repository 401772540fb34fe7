"""Exercises by name: what a folder of them may hold."""

import pytest

from minift.course import registry
from minift.course.attempt import signature_problem
from minift.course.registry import find, names
from minift.errors import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of exercises that is looked into instead of the course's."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    return tmp_path


def test_a_topic_is_one_of_a_kind(folder):
    (folder / "first" / "mask.py").touch()
    assert names() == ["first.mask"]
    (folder / "second" / "mask.py").touch()
    with pytest.raises(InputError, match=r"first\.mask and second\.mask: both ask for a function"):
        names()


@pytest.mark.parametrize(
    ("topic", "text", "said"),
    [
        ("a", "def (", "its file cannot be loaded .SyntaxError"),
        ("b", "1 / 0", "its file cannot be loaded .ZeroDivisionError"),
        ("c", "x = 1", "the `exercise` of its file is missing"),
        (
            "d",
            "from minift.course.exercise import Exercise\n"
            "exercise = Exercise('first.other', 'T', properties=(), hints=())",
            "the `exercise` of its file is called first.other",
        ),
    ],
)
def test_a_file_that_holds_no_such_exercise_has_one_line(folder, monkeypatch, topic, text, said):
    import minift.course.exercises as package

    (folder / "first" / f"{topic}.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [str(folder)])
    with pytest.raises(InputError, match=rf"exercise first\.{topic}: {said}") as caught:
        find(f"first.{topic}")
    assert "\n" not in str(caught.value)


def test_the_marks_of_parameters_are_shown():
    exercise = find("attention.scores")
    assert signature_problem(exercise, lambda *, q, k: 0) == ("(*, q, k)", "(q, k)")
    assert signature_problem(exercise, lambda q, **rest: 0) == ("(q, **rest)", "(q, k)")
    assert signature_problem(exercise, lambda q: 0) == ("(q)", "(q, k)")
    assert signature_problem(exercise, lambda *both: 0) is None
