"""kernels.tile_order: which tile of the output a program makes, in groups of rows."""

from collections.abc import Iterator

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def rows_of_tiles() -> Iterator[Inputs]:
    """Groups of one row: row after row."""
    for program in (0, 1, 3, 4, 7):
        yield {"program": program, "down": 2, "across": 4, "group": 1}


def groups() -> Iterator[Inputs]:
    """Two rows a group, and the rows divide evenly."""
    for program in range(12):
        yield {"program": program, "down": 4, "across": 3, "group": 2}


def lower_groups() -> Iterator[Inputs]:
    """The last group has fewer rows, or there is only a low one."""
    for down, across, group in ((5, 3, 2), (2, 5, 8), (7, 2, 3), (1, 4, 4)):
        for program in range(down * across):
            yield {"program": program, "down": down, "across": across, "group": group}
    for seed in range(8):
        rng = draw(seed)
        down, across, group = (rng.randint(1, 9) for _ in range(3))
        program = rng.randrange(down * across)
        yield {"program": program, "down": down, "across": across, "group": group}


exercise = Exercise(
    "kernels.tile_order",
    "Programs in groups of rows of tiles",
    properties=(
        Equals("goes row after row when a group is one row", rows_of_tiles, "Begin with group 1."),
        Equals("goes down before across, inside a group", groups, "Number a group's tiles."),
        Equals("handles a last group with fewer rows", lower_groups, "How high is this group?"),
    ),
    hints=(
        "A full group has group · across tiles, so the number of the group is "
        "program // (group * across), and its first row is that times group.",
        "Inside the group the place is program % (group * across). Going down first, the row is "
        "place % height and the column place // height.",
        "height is group, but no more than the rows that are left: min(group, down - first_row).",
    ),
)


@exercise.stub
def tile_order(program: int, down: int, across: int, group: int) -> tuple[int, int]:
    """The (row, column) of the tile that a program makes.

    There are down × across tiles. Programs 0, 1, 2, … take `group` rows of tiles at a time, and
    in these go down a column before they go on to the next column. The last group may have fewer
    rows.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(program: int, down: int, across: int, group: int) -> tuple[int, int]:
    first_row = program // (group * across) * group
    height = min(group, down - first_row)
    place = program % (group * across)
    return first_row + place % height, place // height


@exercise.reference
def by_counting(program: int, down: int, across: int, group: int) -> tuple[int, int]:
    tiles = [
        (row, column)
        for first in range(0, down, group)
        for column in range(across)
        for row in range(first, min(first + group, down))
    ]
    return tiles[program]


exercise.slip(
    "row_after_row",
    "return first_row + place % height, place // height",
    "return program // across, program % across",
    "That is row after row, whatever the group: inside a group, go down first.",
)
exercise.slip(
    "last_group_too_high",
    "min(group, down - first_row)",
    "group",
    "The last group may have fewer rows than `group`: count those that are left.",
)
exercise.slip(
    "across_before_down",
    "first_row + place % height, place // height",
    "first_row + place // across, place % across",
    "That is row after row, whatever the group: inside a group, go down first.",
)
exercise.slip(
    "group_not_added",
    "return first_row + place % height",
    "return place % height",
    "Every group begins at row 0: add the first row of the group.",
)
exercise.slip(
    "group_number_for_its_row",
    "program // (group * across) * group",
    "program // (group * across)",
    "The number of the group was taken for its first row: multiply it by `group`.",
)
exercise.slip(
    "column_and_row",
    "return first_row + place % height, place // height",
    "return place // height, first_row + place % height",
    "Row and column are exchanged: the row comes first.",
)
