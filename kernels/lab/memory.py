"""What an interpreted launch may touch, and a record of what it did.

:class:`Memory` knows the tensors of one launch. Every load, store and atomic passes through it
with the addresses of all its lanes, and a lane outside the tensor that its pointer came from is
refused before it is touched: on a GPU it would read another tensor's values or kill the process.
Under :func:`check` it also counts every byte and finds races.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kernels.lab.floats import Array

Program = tuple[int, int, int]

_NOBODY, _MANY = -1, -2


class _Finding(Exception):
    """What a launch did wrong, in one line."""

    def _render_traceback_(self) -> list[str]:
        """In a notebook: that line alone, without the frames of the interpreter."""
        return [f"{type(self).__name__}: {self}"]


class OutOfBoundsError(_Finding, IndexError):
    """A lane of a load, store or atomic lies outside the tensor that its pointer came from."""


class RaceError(_Finding, RuntimeError):
    """Two programs touch one address and at least one of them writes it without an atomic."""


@dataclass(frozen=True)
class Region:
    """The extent in memory of one tensor: from its first element to the end of its last."""

    name: str
    start: int
    stop: int
    storage: int  # address where the storage behind the tensor begins

    def elements(self, size: int) -> int:
        return (self.stop - self.start) // size


class Access(NamedTuple):
    """One load, store or atomic: which program touched which elements of which argument."""

    program: Program
    kind: str
    argument: str
    elements: Array  # indices counted from the tensor's first element, in elements


@dataclass
class Traffic:
    """Bytes that went over one argument: the active lanes times the element size."""

    loaded: int = 0
    stored: int = 0


@dataclass
class Report:
    """What the launches inside one ``with check() as report:`` did.

    ``loaded`` and ``stored`` are bytes and count every active lane once per access, so a value
    that two programs read counts twice. ``dot_flops`` counts 2·M·N·K for every ``tl.dot`` tile,
    masked or not, as the tensor cores do. ``traffic`` splits the bytes by argument.
    """

    strict: bool = True
    traced: bool = False
    kernels: list[str] = field(default_factory=list)
    programs: int = 0
    dot_flops: int = 0
    traffic: dict[str, Traffic] = field(default_factory=dict)
    out_of_bounds: list[str] = field(default_factory=list)
    races: list[str] = field(default_factory=list)
    trace: list[Access] = field(default_factory=list)

    @property
    def loaded(self) -> int:
        return sum(t.loaded for t in self.traffic.values())

    @property
    def stored(self) -> int:
        return sum(t.stored for t in self.traffic.values())

    @property
    def ok(self) -> bool:
        """Whether no lane was out of bounds and no two programs raced."""
        return not self.out_of_bounds and not self.races

    def report(self) -> str:
        """A few lines of text: launches, bytes by argument, findings."""
        names = ", ".join(dict.fromkeys(self.kernels)) or "no launch"
        lines = [
            f"{names}: {_count(len(self.kernels), 'launch', 'es')}, {self.programs:,} programs"
        ]
        lines += [
            f"  {name:<12} loaded {t.loaded:>12,} B   stored {t.stored:>12,} B"
            for name, t in self.traffic.items()
        ]
        lines.append(f"  {self.dot_flops:,} dot FLOPs; {self._findings()}")
        return "\n".join(
            [*lines, *(f"  {line}" for line in [*self.out_of_bounds, *self.races][:5])]
        )

    def _findings(self) -> str:
        return f"{len(self.out_of_bounds)} out of bounds; {_count(len(self.races), 'race', 's')}"

    def __repr__(self) -> str:
        return (
            f"Report({_count(len(self.kernels), 'launch', 'es')}, loaded {self.loaded:,} B, "
            f"stored {self.stored:,} B, {self._findings()})"
        )


_active: ContextVar[Report | None] = ContextVar("kernels.lab.check", default=None)


@contextmanager
def check(*, strict: bool = True, trace: bool = False) -> Iterator[Report]:
    """Record what every interpreted launch inside the block does.

    Args:
        strict: raise at the first lane out of bounds or the first race. With ``False`` the lane
            is left out (loads give NaN or zero) and the finding is listed in the report.
        trace: also keep every access, for drawings (``report.trace``).

    Raises (inside the block): :class:`OutOfBoundsError`, :class:`RaceError`. Races are found
    between accesses of one element size; atomics do not race with each other.
    """
    report = Report(strict=strict, traced=trace)
    token = _active.set(report)
    try:
        yield report
    finally:
        _active.reset(token)


class Memory:
    """The tensors of one launch, and who has touched what."""

    def __init__(self, kernel: str, regions: list[Region], programs: int) -> None:
        self.kernel = kernel
        self.regions = regions
        self.program: Program = (0, 0, 0)
        self.watched = _active.get()
        self._shadows: dict[tuple[int, int], _Shadow] = {}
        if self.watched:
            self.watched.kernels.append(kernel)
            self.watched.programs += programs

    def starting_at(self, address: int) -> Region | None:
        """The tensor whose first element is at this address."""
        return next((r for r in self.regions if r.start == address < r.stop), None)

    def load(self, ptrs: Array, mask: Array, size: int, origin: Region | None) -> Array:
        return self._access("load", ptrs, mask, size, origin)

    def store(self, ptrs: Array, mask: Array, size: int, origin: Region | None) -> Array:
        return self._access("store", ptrs, mask, size, origin)

    def atomic(self, ptrs: Array, mask: Array, size: int, origin: Region | None) -> Array:
        return self._access("atomic", ptrs, mask, size, origin)

    def count_dot(self, flops: int) -> None:
        if self.watched:
            self.watched.dot_flops += flops

    def same_program_conflict(self, ptrs: Array, kept: Array, meant: Array) -> None:
        """Lanes of one store that met at one address with different values: one of them is lost."""
        lost = _raw(kept) != _raw(np.broadcast_to(meant, kept.shape))
        if lost.any():
            where = self._where(int(ptrs[lost].flat[0]), kept.dtype.itemsize, None)
            self._race(f"{where} is written twice, with different values, by one store")

    def _access(
        self, kind: str, ptrs: Array, mask: Array, size: int, origin: Region | None
    ) -> Array:
        """The mask without the lanes that are out of bounds; raises instead when strict."""
        addresses = ptrs[mask].astype(np.int64)
        if not addresses.size:
            return mask
        home, inside = self._locate(addresses, size, origin)
        if not inside.all():
            self._out_of_bounds(kind, addresses[~inside], len(inside), size, home)
            mask = mask.copy()
            mask[mask] = inside
            addresses = addresses[inside]
        if self.watched and home and addresses.size:
            self._record(kind, addresses, size, home)
        return mask

    def _locate(
        self, addresses: Array, size: int, origin: Region | None
    ) -> tuple[Region | None, Array]:
        """The tensor that an access belongs to, and which of its lanes lie inside a tensor."""
        first, last = int(addresses.min()), int(addresses.max())
        candidates = [origin] if origin else self.regions
        for region in candidates:
            if region.start <= first and last + size <= region.stop:
                return region, np.ones(addresses.shape, bool)
        inside = np.zeros(addresses.shape, bool)
        for region in candidates:
            inside |= (addresses >= region.start) & (addresses + size <= region.stop)
        return origin or self._nearest(int(addresses[0])), inside

    def _nearest(self, address: int) -> Region | None:
        def distance(region: Region) -> int:
            return max(region.start - address, address - region.stop, 0)

        return min(self.regions, key=distance, default=None)

    def _out_of_bounds(
        self, kind: str, bad: Array, lanes: int, size: int, home: Region | None
    ) -> None:
        message = f"kernel {self.kernel}: {kind} by program {self.program} out of bounds: "
        message += f"{bad.size} of {lanes} lanes"
        if home:
            over = (int(bad.max()) + size - home.stop) // size
            under = (home.start - int(bad.min())) // size
            past = f"{over} past the end" if over > 0 else f"{under} before the start"
            message += (
                f", the farthest {past} of argument '{home.name}' ({home.elements(size)} elements)"
            )
        if self.watched is None or self.watched.strict:
            raise OutOfBoundsError(f"{message}; mask the lanes that have no element")
        self.watched.out_of_bounds.append(message)

    def _record(self, kind: str, addresses: Array, size: int, home: Region) -> None:
        assert self.watched is not None
        traffic = self.watched.traffic.setdefault(home.name, Traffic())
        traffic.loaded += addresses.size * size if kind != "store" else 0
        traffic.stored += addresses.size * size if kind != "load" else 0
        if self.watched.traced:
            elements = (addresses - home.start) // size
            self.watched.trace.append(Access(self.program, kind, home.name, elements))
        if kind != "atomic":
            self._find_race(kind, addresses, size, home)

    def _find_race(self, kind: str, addresses: Array, size: int, home: Region) -> None:
        last = max(r.stop for r in self.regions if r.storage == home.storage)
        shadow = self._shadows.setdefault(
            (home.storage, size), _Shadow((last - home.storage) // size + 1)
        )
        where = (addresses - home.storage) // size
        found = shadow.load(where, self.program) if kind == "load" else None
        found = shadow.store(where, self.program) if kind == "store" else found
        if found:
            lane, other, verb = found
            place = self._where(int(addresses[lane]), size, home)
            self._race(f"{place}, {_PAST[kind]} by this program, was {verb} by program {other}")

    def _where(self, address: int, size: int, home: Region | None) -> str:
        home = home or self._nearest(address)
        return (
            f"element {(address - home.start) // size} of '{home.name}'" if home else "an address"
        )

    def _race(self, message: str) -> None:
        assert self.watched is not None
        message = f"kernel {self.kernel}: race in program {self.program}: {message}"
        if self.watched.strict:
            raise RaceError(f"{message}; give each element to one program or use an atomic")
        self.watched.races.append(message)


_PAST = {"load": "read", "store": "written"}

Conflict = tuple[int, Program, str]  # lane, the other program, what it did there


class _Shadow:
    """For each element of a storage: which program read it, which one wrote it."""

    def __init__(self, elements: int) -> None:
        self.reader = np.full(elements, _NOBODY, np.int32)
        self.writer = np.full(elements, _NOBODY, np.int32)
        self.programs: dict[Program, int] = {}

    def load(self, where: Array, program: Program) -> Conflict | None:
        me = self.programs.setdefault(program, len(self.programs))
        before = self.reader[where]
        self.reader[where] = np.where((before == _NOBODY) | (before == me), me, _MANY)
        return self._conflict(self.writer[where], me, "written")

    def store(self, where: Array, program: Program) -> Conflict | None:
        me = self.programs.setdefault(program, len(self.programs))
        conflict = self._conflict(self.writer[where], me, "written")
        self.writer[where] = me
        return conflict or self._conflict(self.reader[where], me, "read")

    def _conflict(self, owners: Array, me: int, verb: str) -> Conflict | None:
        others = np.flatnonzero((owners != _NOBODY) & (owners != me))
        if not others.size:
            return None
        owner = int(owners[others[0]])
        if owner == _MANY:  # any of them will do as an example
            owner = next(index for index in self.programs.values() if index != me)
        return int(others[0]), list(self.programs)[owner], verb


def _raw(values: Array) -> Array:
    """The bits of each element, so that NaN equals NaN."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def _count(n: int, noun: str, plural: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else plural}"


def region_of(name: str, tensor: Any) -> Region:
    """The extent of a tensor, strided views included."""
    itemsize = tensor.element_size()
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((length - 1) * stride for length, stride in steps) if tensor.numel() else -1
    start = tensor.data_ptr()
    return Region(name, start, start + (last + 1) * itemsize, tensor.untyped_storage().data_ptr())
