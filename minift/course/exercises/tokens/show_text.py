"""tokens.show_text: bytes that come piece by piece, shown as whole characters."""

import codecs
from collections.abc import Iterator

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def cut(text: str, *lengths: int) -> list[bytes]:
    """The UTF-8 of a text in chunks of so many bytes; the rest is the last one."""
    data, chunks = text.encode(), []
    for length in lengths:
        chunks.append(data[:length])
        data = data[length:]
    return [*chunks, data] if data else chunks


def whole() -> Iterator[Inputs]:
    yield {"chunks": [b"The", b" cat", b" sat"]}
    yield {"chunks": [b"caf", "é".encode(), b"!"]}
    yield {"chunks": []}


def halves() -> Iterator[Inputs]:
    yield {"chunks": cut("é", 1)}
    yield {"chunks": cut("a👍b", 1, 1, 1, 1, 1)}
    yield {"chunks": cut("中文", 2, 2)}


def mixed_chunks() -> Iterator[Inputs]:
    yield {"chunks": cut("naïve", 3)}
    yield {"chunks": cut("ab👍cd", 4)}
    yield {"chunks": [b"x\xe4", b"\xb8\xad\xe6", b"\x96\x87y", b""]}


def broken_off() -> Iterator[Inputs]:
    yield {"chunks": [b"a", b"\xf0\x9f"]}
    yield {"chunks": [b"ok\xc3"]}
    yield {"chunks": [b"\xc3", b"\xa9\xf0"]}
    yield {"chunks": [b"\xe4", b"\xb8"]}


def random_texts() -> Iterator[Inputs]:
    for seed in range(40):
        rng = draw(seed)
        text = "".join(rng.choices("ab é中👍ß€\n", k=rng.randint(0, 12)))
        chunks = cut(text, *(rng.randint(0, 4) for _ in range(rng.randint(0, 14))))
        yield {"chunks": chunks[:-1] if seed % 3 == 0 else chunks}


exercise = Exercise(
    "tokens.show_text",
    "Text as it arrives",
    properties=(
        Equals("shows whole chunks at once", whole, "Nothing to wait for: show it."),
        Equals("waits for the rest of a character", halves, "Keep the bytes for the next chunk."),
        Equals("shows what is complete in a chunk", mixed_chunks, "Only the half one has to wait."),
        Equals("gives what is left at the end", broken_off, "One more piece after the last chunk."),
        Equals("holds for random texts and cuts", random_texts, "Compare with the contract."),
    ),
    hints=(
        "Keep the bytes that could not be shown: `waiting += chunk`. Then find out how many of "
        "them are complete characters.",
        "At most three bytes at the end can be the beginning of a character. Try to decode all of "
        "`waiting`, then all but one byte, all but two, all but three; a `UnicodeDecodeError` says "
        "that it does not work yet.",
        'At the end: `waiting.decode("utf-8", errors="replace")`.',
    ),
)


@exercise.stub
def show_text(chunks: list[bytes]) -> list[str]:
    """What can be shown after each chunk of a UTF-8 text, and at last what is left.

    chunks: the bytes of one token each; a character may lie in several. Piece i is everything that
    is complete after chunk i and was not shown before: no half character, nothing held back
    without need. One more piece at the end has the rest: "", or U+FFFD for a broken-off character.
    Returns len(chunks) + 1 pieces.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(chunks: list[bytes]) -> list[str]:
    pieces, waiting = [], b""
    for chunk in chunks:
        waiting += chunk
        for held in range(4):
            end = max(0, len(waiting) - held)
            try:
                text = waiting[:end].decode("utf-8")
                break
            except UnicodeDecodeError:
                continue
        pieces.append(text)
        waiting = waiting[end:]
    return [*pieces, waiting.decode("utf-8", errors="replace")]


@exercise.reference
def by_codec(chunks: list[bytes]) -> list[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [*map(decoder.decode, chunks), decoder.decode(b"", final=True)]


@exercise.mistake("Each chunk was decoded alone: half a character became U+FFFD and was shown.")
def each_alone(chunks: list[bytes]) -> list[str]:
    return [*[chunk.decode("utf-8", errors="replace") for chunk in chunks], ""]


@exercise.mistake('errors="ignore" drops the halves of a character: it never appears.')
def drops_halves(chunks: list[bytes]) -> list[str]:
    return [*[chunk.decode("utf-8", errors="ignore") for chunk in chunks], ""]


@exercise.mistake("The whole chunk waited, although its beginning was complete: show that part.")
def waits_for_all(chunks: list[bytes]) -> list[str]:
    pieces, waiting = [], b""
    for chunk in chunks:
        waiting += chunk
        try:
            pieces.append(waiting.decode("utf-8"))
            waiting = b""
        except UnicodeDecodeError:
            pieces.append("")
    return [*pieces, waiting.decode("utf-8", errors="replace")]


@exercise.mistake("What was still waiting at the end is lost: it is the last piece.")
def loses_the_end(chunks: list[bytes]) -> list[str]:
    return [*solution(chunks)[:-1], ""]


@exercise.mistake("The last piece is missing: there is one more piece than there are chunks.")
def one_piece_short(chunks: list[bytes]) -> list[str]:
    return solution(chunks)[:-1]


@exercise.mistake("Each piece has the whole text so far: give only what is new.")
def all_so_far(chunks: list[bytes]) -> list[str]:
    pieces = solution(chunks)
    return ["".join(pieces[: i + 1]) for i in range(len(pieces))]
