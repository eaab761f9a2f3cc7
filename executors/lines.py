"""Rows of ordered models on their way to the batcher: a line per model, whatever version, signature and priority; pure.

Consecutive rows that may ride in one batch are a group. The batcher gets the first group of a line when it holds no row
of the model and none is under way, so that batches end in the order of the line. A group whose inputs are still fetched
holds its line up: what passed it would be answered before it. Priorities count between models, by the first row of a
group, and not inside a line. Nothing here costs anything while no model is ordered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod

from executors.batcher import MAX_MODEL_BYTES, MAX_MODEL_ITEMS
from executors.profile import Version
from executors.row_queue import BatchKey
from executors.row_slice import RowSlice


@dataclass(eq=False, slots=True)
class Group:
    """Consecutive rows of one key; not ready, and without rows, as long as their inputs are fetched."""

    key: BatchKey
    slices: list[RowSlice] = field(default_factory=list)
    is_ready: bool = True


@dataclass(eq=False, slots=True)
class _Line:
    """Groups that wait, the first of which is next, and what they hold."""

    groups: deque[Group] = field(default_factory=deque)
    num_items: int = 0
    num_bytes: int = 0


class Lines:
    """The lines of one executor, bounded per model. ``num_items``: what waits in them, without what is fetched."""

    def __init__(self, max_items: int = MAX_MODEL_ITEMS, max_bytes: int = MAX_MODEL_BYTES) -> None:
        self._lines: dict[str, _Line] = {}
        self._max_items, self._max_bytes = max_items, max_bytes
        self.num_items = 0

    def __bool__(self) -> bool:
        """Whether something waits, be it for its inputs."""
        return bool(self._lines)

    def put(self, key: BatchKey, row_slice: RowSlice) -> bool:
        """Add rows at the end of their model's line; False, and nothing done, where the line is full."""
        line = self._line(key.model)
        if line.num_items and (
            line.num_items + row_slice.num_items > self._max_items
            or line.num_bytes + _bytes(key, row_slice) > self._max_bytes
        ):
            return False
        if not line.groups or not line.groups[-1].is_ready or line.groups[-1].key != key:
            line.groups.append(Group(key))
        line.groups[-1].slices.append(row_slice)
        self._count(line, key, row_slice, 1)
        return True

    def reserve(self, key: BatchKey) -> Group:
        """Keep a place at the end for rows whose inputs are fetched."""
        group = Group(key, is_ready=False)
        self._line(key.model).groups.append(group)
        return group

    def fill(self, group: Group, key: BatchKey, row_slice: RowSlice) -> None:
        """Give a reserved place its rows."""
        group.key, group.is_ready = key, True
        group.slices.append(row_slice)
        self._count(self._lines[key.model], key, row_slice, 1)

    def leave(self, group: Group) -> None:
        """Give a reserved place up: its rows ended."""
        self._lines[group.key.model].groups.remove(group)
        self._forget(group.key.model)

    def feed(self, may_go: Callable[[str], bool]) -> Iterator[tuple[BatchKey, RowSlice]]:
        """What the batcher gets now, the rows of a group with one priority; ``may_go``: it has nothing of a model."""
        for model, line in list(self._lines.items()):
            if not line.groups[0].is_ready or not may_go(model):
                continue
            group = line.groups.popleft()
            priority = group.slices[0].priority
            for row_slice in group.slices:
                self._count(line, group.key, row_slice, -1)
                row_slice.priority = priority
                yield group.key, row_slice
            self._forget(model)

    def queued(self) -> Iterator[tuple[Version, int, int]]:
        """Version and priority of the first rows of a line, and its items; a line that waits for inputs is left out."""
        for line in self._lines.values():
            if line.groups[0].is_ready:
                first = line.groups[0]
                yield (first.key.model, first.key.version), first.slices[0].priority, line.num_items

    def drop(self, version: Version) -> list[RowSlice]:
        """Take out the rows of a version; places that are reserved stay."""
        line = self._lines.get(version[0])
        if line is None:
            return []
        mine = [group for group in line.groups if group.is_ready and (group.key.model, group.key.version) == version]
        for group in mine:
            line.groups.remove(group)
            for row_slice in group.slices:
                self._count(line, group.key, row_slice, -1)
        self._forget(version[0])
        return [row_slice for group in mine for row_slice in group.slices]

    def _line(self, model: str) -> _Line:
        line = self._lines.get(model)
        if line is None:
            line = self._lines[model] = _Line()
        return line

    def _forget(self, model: str) -> None:
        if not self._lines[model].groups:
            del self._lines[model]

    def _count(self, line: _Line, key: BatchKey, row_slice: RowSlice, sign: int) -> None:
        line.num_items += sign * row_slice.num_items
        line.num_bytes += sign * _bytes(key, row_slice)
        self.num_items += sign * row_slice.num_items


def _bytes(key: BatchKey, row_slice: RowSlice) -> int:
    return row_slice.num_items * sum([prod(shape) * width for _, shape, width in key.signature])
