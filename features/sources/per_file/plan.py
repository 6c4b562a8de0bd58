"""Groups of input files that are built together: one canonical file each.

Files of a first load are read in groups, because reading one by one costs more; a new or changed
file becomes a group of its own. A group is read again when one of its files changed or is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from configs.runtime.hashing import digest
from features.sources.manifest import FileFacts

GROUP_FILES = 32
"""Files read together at most."""

GROUP_BYTES = 64 * 2**20
"""Bytes of a group above which the next file begins a new one."""


@dataclass(frozen=True)
class FileGroup:
    """Consecutive input files.

    Attributes
    ----------
    files : tuple of FileFacts
        In the order of the input.
    """

    files: tuple[FileFacts, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files."""
        return tuple(item["file"] for item in self.files)

    @property
    def content(self) -> str:
        """Identity of names and content; the name is part of it for partition folders."""
        return digest([[item["file"], item["sha256"]] for item in self.files])


def plan_groups(files: Sequence[FileFacts], held: Mapping[str, Sequence[str]]) -> list[FileGroup]:
    """Return the groups of the files of an input, in their order.

    Parameters
    ----------
    files : sequence of FileFacts
        All files, in the order of the input.
    held : mapping of str to sequence of str
        Content identity of each group of the last build → names of its files. A group is kept when
        its files are the same and no other file lies between them.
    """
    place = {item["file"]: i for i, item in enumerate(files)}
    kept: dict[int, FileGroup] = {}
    for content, names in held.items():
        found = _kept(files, place, content, names)
        if found is not None:
            kept[place[names[0]]] = found
    groups: list[FileGroup] = []
    rest: list[FileFacts] = []
    i = 0
    while i < len(files):
        if i in kept:
            groups += [*_grouped(rest), kept[i]]
            rest = []
            i += len(kept[i].files)
        else:
            rest.append(files[i])
            i += 1
    return groups + _grouped(rest)


def _kept(
    files: Sequence[FileFacts], place: Mapping[str, int], content: str, names: Sequence[str]
) -> FileGroup | None:
    """Return the group of the last build if it can be kept."""
    first = place.get(names[0]) if names else None
    if first is None:
        return None
    group = FileGroup(tuple(files[first : first + len(names)]))
    return group if group.content == content else None


def _grouped(files: Iterable[FileFacts]) -> list[FileGroup]:
    groups: list[list[FileFacts]] = []
    size = 0
    for item in files:
        if not groups or len(groups[-1]) >= GROUP_FILES or size + item["size"] > GROUP_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(item)
        size += item["size"]
    return [FileGroup(tuple(group)) for group in groups]
