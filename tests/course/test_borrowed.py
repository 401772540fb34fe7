"""What the library has is not an answer: found by trying all of it, and by trying to hide it."""

import functools
import importlib
import inspect
import pkgutil
import sys
from types import FunctionType

import pytest

import kernels
import minift
from minift.course.borrowed import borrowed
from minift.course.checking import examine
from minift.course.exercise import plain
from minift.course.registry import find, names
from minift.course.trial import Counterexample, NotAttempted
from minift.layers import mask
from minift.layers.mask import causal_mask

# Here functions act (print, fetch, write, run for minutes); none of them computes what is asked.
ACTING = (
    "course", "commands", "demo", "assets", "__main__", "verification", "training",
    "builder",  # of instructions: C++ underneath, which does not look at what it is given
)  # fmt: skip
EXERCISE = "attention.causal_mask"


def library_functions():
    """Every function of minift and kernels by its place, kernels as they are launched."""
    found = {}
    for package in (minift, kernels):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if set(info.name.split(".")) & set(ACTING):
                continue
            module = importlib.import_module(info.name)
            for name, value in vars(module).items():
                fn = plain(value)
                if isinstance(fn, FunctionType) and fn.__module__ == info.name:
                    found[f"{info.name}.{name}"] = value
    return found


def candidates(exercise, functions):
    """Those that can be called as the exercise's function is."""
    right = inspect.signature(plain(exercise.start))
    jit = plain(exercise.start) is not exercise.start
    for place, value in functions.items():
        if (plain(value) is not value) != jit:
            continue
        try:
            inspect.signature(plain(value)).bind(*right.parameters)
        except (TypeError, ValueError):
            continue
        yield place, value


def passes(exercise, fn):
    """Whether every property holds; the first one tells for almost all."""
    try:
        for prop in exercise.properties:
            prop.verify(exercise, fn)
    except (Counterexample, NotAttempted):
        return False
    return True


@pytest.fixture(scope="module")
def functions():
    return library_functions()


@pytest.mark.filterwarnings("ignore")  # of functions that are given what they are not for
@pytest.mark.parametrize("name", names())
def test_the_library_answers_no_exercise(name, functions):
    exercise = find(name)
    found = {place for place, fn in candidates(exercise, functions) if passes(exercise, fn)}
    assert found == set(exercise.in_library)
    for place in found:
        failure = examine(name, functions[place]).failure
        assert (failure.claim, failure.yours) == ("is written by you", place)


def wrapped(queries, keys):
    return causal_mask(queries, keys)


def by_module(queries, keys):
    return mask.causal_mask(queries, keys)


def imported_inside(queries, keys):
    from minift.layers.mask import causal_mask as its

    return its(queries, keys)


def through_another(queries, keys):
    return wrapped(queries, keys)


def inside(queries, keys):
    return (lambda: causal_mask(queries, keys))()


class Callable:
    def __call__(self, queries, keys):
        return causal_mask(queries, keys)


its = causal_mask


def renamed(queries, keys):
    return its(queries, keys)


@pytest.mark.parametrize(
    "fn",
    [causal_mask, wrapped, by_module, imported_inside, through_another, inside, renamed,
     lambda queries, keys: causal_mask(queries, keys), functools.partial(causal_mask), Callable()],
)  # fmt: skip
def test_a_wrapper_is_no_answer_either(fn):
    failure = examine(EXERCISE, fn).failure
    assert (failure.claim, failure.yours) == ("is written by you", "minift.layers.mask.causal_mask")
    assert "The library has this function already" in failure.mistake


def test_in_a_closure():
    def made(its):
        return lambda queries, keys: its(queries, keys)

    assert borrowed(find(EXERCISE), made(causal_mask)) == "minift.layers.mask.causal_mask"


def own(queries, keys):
    """One's own function of the library's name, beside one's own module called mask."""
    mask = find(EXERCISE).answer
    return mask(queries, keys)


@pytest.mark.parametrize("answer", [own, find(EXERCISE).answer, "text", None, print, find])
def test_what_is_not_borrowed(answer, monkeypatch):
    assert borrowed(find(EXERCISE), answer) is None
    monkeypatch.delitem(sys.modules, "minift.layers.mask")
    assert borrowed(find(EXERCISE), answer) is None
