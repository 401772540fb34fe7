"""The rules for notebooks find what they are for: each is broken here once."""

import copy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from minift.course import find
from minift.course.anatomy import RULES, Lesson, library_functions
from minift.course.notebooks import FOLDER, folded_help
from minift.course.outputs import problems, text

OPENING = "# Title\n\nYou will be able to see. 10 minutes, 500 MB."
SUMMARY = "## Summary\n\n- It works.\n\n**Next:** [more](../00_start_here.ipynb#now)"
IMPORTS = "import torch\nfrom minift.course import check"
DIGEST = "Plot 'A': x is 'step', y is 'loss'\n"


def picture():
    data = {"image/png": "aGk=", "text/plain": "<Figure size 10x10 with 1 Axes>"}
    return new_output("display_data", data=data)


def printed(words):
    return new_output("stream", name="stdout", text=words)


def lesson_cells():
    """A lesson in which nothing is wrong: 3 figures, 2 exercises, 44 cells."""
    cells = [new_markdown_cell(OPENING), new_code_cell(IMPORTS)]
    for number in (1, 2, 3):
        cells.append(new_code_cell("plot()", outputs=[printed(DIGEST), picture()]))
        cells.append(new_markdown_cell(f"*Figure {number}. It goes\ndown.*\n\nMore."))
    for name in ("attention.scores", "attention.causal_mask"):
        exercise = find(name)
        cells.append(new_code_cell(exercise.stub_source()))
        cells.append(new_code_cell(f'check("{name}", {exercise.function})'))
        cells.append(new_markdown_cell(folded_help(name)))
    cells += [new_markdown_cell(f"Text {i}.") for i in range(29)]
    cells.append(new_markdown_cell(SUMMARY))
    for number, cell in enumerate((c for c in cells if c.cell_type == "code"), 1):
        cell.execution_count = number
    return cells


def found(cells, name="1-transformer/01_lesson.ipynb", described=None, size=1000):
    lesson = Lesson(FOLDER / name, cells, lesson_cells() if described is None else described, size)
    return [message for rule in RULES for message in rule(lesson)]


def broken(change, **options):
    cells = lesson_cells()
    change(cells)
    return "\n".join(found(cells, described=copy.deepcopy(cells), **options))


def test_nothing_is_found_in_a_lesson_without_faults():
    assert found(lesson_cells()) == []


def drop(cells, part):
    cells[:] = [c for c in cells if part not in c.source]


def put(cells, part, source):
    next(c for c in cells if part in c.source).source = source


BREAKS = {
    "no `# Title`": lambda c: put(c, "# Title", OPENING.replace("# T", "## T")),
    "does not say what you will be able": lambda c: put(c, "# Title", "# T\n\n10 minutes, 5 MB"),
    "does not say how long": lambda c: put(c, "# Title", OPENING.replace("10 minutes", "Short")),
    "does not say how much memory": lambda c: put(
        c, "# Title", "# T\n\nYou will be able to. 2 minutes"
    ),
    "the last cell is no `## Summary`": lambda c: c.pop(),
    "the summary does not say what is next": lambda c: put(
        c, "## Summary", "## Summary\n\n- Done."
    ),
    "not numbered 1, 2, 3": lambda c: setattr(c[1], "execution_count", None),
    "2 figures; 3 to 6 are right": lambda c: c[2].outputs.pop(),
    "no caption *Figure 2": lambda c: put(c, "Figure 2", "Figure 2 shows it."),
    "no caption *Figure 3": lambda c: put(c, "Figure 3", "*Figure 4. It goes down.*"),
    "a figure without `print(describe(fig))`": lambda c: c[2].outputs.pop(0),
    "an axis that has no label": lambda c: c[2].outputs[0].update(text="Plot: x is 'a', y is ''\n"),
    "1 exercises; 2 to 4 are right": lambda c: drop(c, 'check("attention.scores"'),
    "there is no exercise attention.score\n": lambda c: put(
        c, 'check("attention.scores"', 'check("attention.score", scores)'
    ),
    "the stub of attention.scores does not stand": lambda c: drop(c, "def scores(q: Tensor"),
    "the stub of attention.causal_mask does not": lambda c: put(
        c, "causal_mask(queries", find("attention.causal_mask").solution_source()
    ),
    "the solution of attention.causal_mask uses torch, which no cell": lambda c: put(
        c, "from minift", "from minift import load"
    ),
    "no {{ help attention.scores }} within": lambda c: drop(c, "Which of the two"),
    "35 cells; 40 to 70": lambda c: c.__delitem__(slice(14, 23)),
    "71 cells; 40 to 70": lambda c: c.__setitem__(
        slice(20, 20), [new_markdown_cell("More.")] * (71 - len(c))
    ),
    "the stub of attention.scores does not stand, as": lambda c: c.insert(
        -1, c.pop(next(i for i, cell in enumerate(c) if "def scores" in cell.source))
    ),
    "no {{ help attention.scores }} within three": lambda c: c.insert(
        -1, c.pop(next(i for i, cell in enumerate(c) if "Which of the two" in cell.source))
    ),
    "the median code cell has 7 lines": lambda c: [
        setattr(cell, "source", cell.source + "\n#" * 6) for cell in c if cell.cell_type == "code"
    ],
    "a link leads nowhere: ../00_start": lambda c: put(
        c,
        "Text 3",
        "[a](../00_start.ipynb), [b](https://example.org/x), [c](#d), [e](../conftest.py)",
    ),
    "nothing is imported from the library": lambda c: put(c, "from minift", "import torch"),
    "attention is a second copy of": lambda c: put(
        c, "plot()", "def attention(q, k, v):\n    return v"
    ),
    "the tag teaches:minift.layers.attention.absent names no": lambda c: c[1].metadata.update(
        tags=["teaches:minift.layers.attention.absent"]
    ),
}


@pytest.mark.parametrize("message", BREAKS)
def test_each_rule_finds_its_fault(message):
    assert message.strip() in broken(BREAKS[message])


def test_a_copy_that_is_tagged_as_teaching_is_allowed():
    def teach(cells):
        cells[2].source = "def merge_heads(x):\n    return x.transpose(1, 2).flatten(2)"
        cells[2].metadata.update(tags=["teaches:minift.layers.attention.merge_heads"])

    assert broken(teach) == ""
    assert "minift.layers.attention.merge_heads" in library_functions()["merge_heads"]


def test_links_elsewhere_and_brackets_in_code_are_no_concern_of_the_rule():
    text = "[a](https://example.org/x) [b](#c) [d](../conftest.py) `run[(2,)](x, y)`"
    assert broken(lambda cells: put(cells, "Text 3", text)) == ""


def test_the_size_of_the_file_is_bounded():
    assert "601 kB; at most 600 are right" in broken(lambda cells: None, size=601_000)


def test_the_start_has_no_bounds_on_figures_exercises_and_length():
    cells = [c for c in lesson_cells() if "Text" not in c.source and "Figure" not in c.source]
    cells = [c for c in cells if c.source != "plot()"]
    cells[-1].source = SUMMARY.replace("../", "")
    described = copy.deepcopy(cells)
    numbered = [c for c in cells if c.cell_type == "code"]
    for number, cell in enumerate(numbered, 1):
        cell.execution_count = number
    assert found(cells, name="00_start_here.ipynb", described=described) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda c: setattr(c[5], "source", "Other words."),
        lambda c: c.pop(20),
        lambda c: c.append(new_markdown_cell("## Summary next")),
        lambda c: c[1].metadata.update(tags=["raises-exception"]),
        lambda c: c.__setitem__(20, new_code_cell("Text 6.")),
    ],
)
def test_a_notebook_out_of_step_with_its_source_is_noticed(change):
    cells = lesson_cells()
    change(cells)
    assert "build it again" in "\n".join(found(cells, described=lesson_cells()))


# ---- stored outputs


def output_problems(*outputs, tags=()):
    cell = new_code_cell("1", outputs=list(outputs), metadata={"tags": list(tags)})
    return "\n".join(problems(cell))


ERROR = new_output("error", ename="ValueError", evalue="no\nmore", traceback=["ValueError: no"])


def test_steady_outputs_are_fine():
    fine = "loss 0.52, 12 heads, 3/4 right; a/b/c; see 2-kernels/01; 28 bytes; 10\nsteps; 0.0010000"
    assert output_problems(printed(fine), picture()) == ""
    assert output_problems(ERROR, tags=["raises-exception"]) == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("saved to /home/ada/model", "an absolute path: '/home/ada/model'"),
        ("File '/tmp/x/y.py'", "an absolute path"),
        ("C:\\Users\\ada", "an absolute path"),
        ("<object at 0x7f55b8d38040>", "a memory address"),
        ("took 3.2 s", "a time: '3.2 s'"),
        ("12ms per step", "a time: '12ms'"),
        ("118.2 it/s", "a time"),
        ("loss 0.6931471805", "an unrounded number: '0.6931471805'"),
        ("x" * 4001, "4001 characters"),
    ],
)
def test_unsteady_outputs_are_named(words, message):
    assert message in output_problems(printed(words))
    shown = new_output("execute_result", data={"text/plain": words}, execution_count=1)
    assert message in output_problems(shown)


def test_errors_are_right_only_where_they_are_announced():
    assert output_problems(ERROR) == "it failed: ValueError: no"
    assert "raised nothing" in output_problems(tags=["raises-exception"])
    assert "stderr" in output_problems(new_output("stream", name="stderr", text="careful"))
    traceback = nbformat.from_dict({**ERROR, "traceback": ["File /usr/lib/python/x.py"]})
    assert "an absolute path" in output_problems(traceback, tags=["raises-exception"])


def test_text_is_everything_readable():
    cell = new_code_cell("1", outputs=[printed("a"), ERROR, picture()])
    assert [part in text(cell) for part in ("a", "no\nmore", "<Figure size", "aGk=")] == [
        True, True, True, False,
    ]  # fmt: skip
