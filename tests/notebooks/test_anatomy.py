"""The rules for notebooks find what they are for: each is broken here once."""

import copy
import inspect

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from minift.course import find
from minift.course.lessons.anatomy import RULES, Lesson
from minift.course.lessons.copies import defined_twice, definitions, library, shape
from minift.course.lessons.notebooks import FOLDER, all_sources, folded_help, notebook_of
from minift.course.lessons.outputs import problems, text
from minift.data import bio

TIME = "10 minutes to read; 5 seconds to run on two CPU cores, with 500 MB of memory."
OPENING = f"# Title\n\nYou will be able to see. {TIME}"
SUMMARY = "## Summary\n\n- It works.\n\n**Next:** [more](../00_start_here.ipynb#now)"
IMPORTS = "import torch\nfrom minift.course import check"
DIGEST = "Plot 'A': x is 'step', y is 'loss'\n"


def picture():
    data = {"image/png": "aGk=", "text/plain": "<Figure size 10x10 with 1 Axes>"}
    return new_output("display_data", data=data)


def printed(words):
    return new_output("stream", name="stdout", text=words)


def lesson_cells():
    """A lesson without faults: 3 figures, 2 exercises, 42 cells and 2 with folded help."""
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


MERGE = """def merge_heads(x):
    return x.transpose(1, 2).flatten(2)  # a comment"""


def teach(cells, source, tag="teaches:minift.layers.attention.merge_heads"):
    cells[2].source = source
    cells[2].metadata.update(tags=[tag])


BREAKS = {
    "no `# Title`": lambda c: put(c, "# Title", OPENING.replace("# T", "## T")),
    "does not say what you will be able": lambda c: put(c, "# Title", f"# T\n\n{TIME}"),
    "does not state time and memory in this form: 90 minutes": lambda c: put(
        c, "# Title", OPENING.replace("500 MB", "some")
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
    "33 cells; 40 to 70": lambda c: c.__delitem__(slice(14, 23)),
    "71 cells; 40 to 70": lambda c: c.__setitem__(
        slice(20, 20), [new_markdown_cell("More.")] * (73 - len(c))
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
    "spans is a second copy of minift.data.bio.entities": lambda c: put(
        c, "plot()", inspect.getsource(bio.entities).replace("def entities", "def spans")
    ),
    "tagged teaches:minift.layers.attention.merge_heads, but not equal": lambda c: teach(
        c, MERGE.replace("(1, 2)", "(2, 1)")
    ),
    "tagged teaches:minift.layers.attention.merge_heads, but not": lambda c: teach(c, "x = 1"),
    "the tag names minift.layers.attention.absent, which is no": lambda c: c[1].metadata.update(
        tags=["teaches:minift.layers.attention.absent"]
    ),
}


@pytest.mark.parametrize("message", BREAKS)
def test_each_rule_finds_its_fault(message):
    assert message.strip() in broken(BREAKS[message])


@pytest.mark.parametrize(
    ("source", "tag"),
    [
        (MERGE, "teaches:"),
        (
            MERGE.replace("):", "):\n    '''Words.'''").replace("(x)", "(x: Tensor) -> Tensor"),
            "teaches:",
        ),
        (MERGE.replace("(1, 2)", "(2, 1)"), "simplifies:"),
    ],
)
def test_a_copy_that_is_tagged_is_allowed(source, tag):
    place = "minift.layers.attention.merge_heads"
    assert broken(lambda cells: teach(cells, source, tag + place)) == ""


def test_links_elsewhere_and_brackets_in_code_are_no_concern_of_the_rule():
    text = "[a](https://example.org/x) [b](#c) [d](../conftest.py) `run[(2,)](x, y)`"
    assert broken(lambda cells: put(cells, "Text 3", text)) == ""


def test_code_is_compared_by_what_it_computes():
    (node,) = definitions(MERGE)
    assert shape(node) == library()["minift.layers.attention.merge_heads"]
    with_more = MERGE.replace("def ", "@torch.no_grad()\ndef ").replace("(x)", "(x: Tensor)")
    assert shape(*definitions(with_more)) == shape(node)
    for change in (("(1, 2)", "(1, 3)"), ("(x)", "(x, y=None)"), ("flatten", "reshape")):
        assert shape(*definitions(MERGE.replace(*change))) != shape(node)
    assert definitions("%timeit x\nx = (") == []


LONG = "def {}(x, y):\n    z = x * y + y / x - 3 * x * x\n    return z.sum() + z.mean() - y.max()"


def test_a_function_in_two_notebooks_is_noticed():
    one, two, other = (new_code_cell(LONG.format(n)) for n in ("first", "second", "third"))
    other.source = other.source.replace("3", "4")
    found = list(defined_twice([("1/a", [one, other]), ("1/b", [new_markdown_cell("x"), two])]))
    assert found == ["1/b: second is a second copy of 1/a: first"]
    asked = new_code_cell('check("a.second", second)')  # an exercise may be one that is shown
    assert list(defined_twice([("1/a", [one]), ("1/b", [two, asked])])) == []


def linking(*targets):
    """A course's second notebook with these links, and what the rules say of it."""
    order = [notebook_of(path) for path in all_sources()]
    cells = lesson_cells()
    cells[-1].source = SUMMARY.replace("[more](../00_start_here.ipynb#now)", " ".join(targets))
    place = order[1].relative_to(FOLDER).as_posix()
    return order, "\n".join(found(cells, name=place, described=copy.deepcopy(cells)))


def test_a_notebook_links_to_the_one_before_and_the_one_behind():
    order, nothing = linking("x")
    back, forward = (f"[x](../{p.relative_to(FOLDER).as_posix()})" for p in (order[0], order[2]))
    assert f"no link back to {order[0].relative_to(FOLDER)}" in nothing
    assert f"no link forward to {order[2].relative_to(FOLDER)}" in nothing
    assert "link" not in linking(back, f"{forward[:-1]}#part)")[1]
    assert linking(back)[1].startswith("no link forward")
    assert linking(forward)[1].startswith("no link back")


def test_the_size_of_the_file_is_bounded():
    assert "601 kB; at most 600 are right" in broken(lambda cells: None, size=601_000)


def test_the_start_has_no_bounds_on_figures_exercises_and_length():
    cells = [c for c in lesson_cells() if "Text" not in c.source and "Figure" not in c.source]
    cells = [c for c in cells if c.source != "plot()"]
    cells[-1].source = SUMMARY.replace("../00_start_here", "1-transformer/01_before_attention")
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
