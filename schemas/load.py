"""What executors say of the work that waits in them, several times a second while there is any."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VersionLoad:
    """What waits for one model version; a batch of n items takes ``fixed_us`` + ``per_item_us`` * n.

    ``is_long``: its batches run in threads; ``running_us``: what is left of the one under way; ``num_taken``: rows
    taken off the lanes since the executor's start; ``num_late``: those that waited until it was too late for them;
    ``waiting_items``: by priority, 0 to 9, without zeros at the end.
    """

    model: str
    version: str
    fixed_us: float
    per_item_us: float
    max_batch_size: int
    is_long: bool
    running_us: float
    num_taken: int
    num_late: int
    waiting_items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ExecutorLoad:
    """One executor's report; ``newest_us`` is when the newest frame that it took left its edge (0: none yet).

    ``versions``: those that have rows here, or had some since the last report. Up to ``num_threads`` long batches run
    at a time.
    """

    executor: str
    sent_us: int
    newest_us: int
    num_threads: int
    versions: tuple[VersionLoad, ...]
