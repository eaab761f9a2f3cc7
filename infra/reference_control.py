"""References of model versions: made of a file's rows and what the version answers them, and put into memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from executors.model_store import ModelStore
from executors.reference import Batch, ReferenceDataError, make_reference
from executors.session import ModelSession
from infra.memory_command import command_of
from infra.memory_control import ChangeRefusedError, MemoryControl, require_model
from infra.row_file import RowFileError, read_rows
from schemas.model import ModelVersion
from schemas.reference import Reference
from streams.canonical import to_json
from streams.columns import Array
from streams.memory_view import MemoryView, active_version, model_version
from streams.references import reference, reference_key


def facts_of(view: MemoryView, model: str, version: str = "") -> ModelVersion:
    """A registered version, the active one where none is named. Raises ChangeRefusedError where there is none."""
    require_model(view, model)
    named = version or active_version(view, model) or ""
    facts = model_version(view, model, named)
    if facts is None:
        raise ChangeRefusedError(
            "unknown_version", f"{model} has no version {named}", f"`isos models show {model}` lists them."
        )
    return facts


def reference_of(facts: ModelVersion, store: ModelStore, path: Path) -> Reference:
    """The reference of a file's rows, which the version runs for here.

    Raises RowFileError, OSError, LoadError, ExecutionError and what the store raises.
    """
    batches = read_rows(path, facts.inputs)
    session = ModelSession.load(store.get(facts.digest), facts, "cpu", warm=False)
    try:
        return make_reference(facts, [batch for inputs in batches for batch in answered(session, inputs)], path.name)
    except ReferenceDataError as error:
        raise RowFileError(path, error.problem) from error


def answered(session: ModelSession, inputs: dict[str, Array]) -> Iterator[Batch]:
    """Rows in batches of the version's size, each with what it answers to them."""
    num_rows, size = len(next(iter(inputs.values()))), session.model.max_batch_size
    for at in range(0, num_rows, size):
        part = {name: array[at : at + size] for name, array in inputs.items()}
        yield part, session.run(part)


class ReferenceControl(MemoryControl):
    """An open connection to memory, by which references are set and removed. Use ``async with``."""

    async def set_reference(self, model: str, version: str, path: Path, store: ModelStore) -> Reference:
        """Make a file's rows the reference of a version and wait until it stands in memory.

        Raises as ``reference_of``, ChangeRefusedError, and WatchTimeoutError when nobody answers in time.
        """
        facts = facts_of(self.view, model, version)
        wanted = await asyncio.to_thread(reference_of, facts, store, path)
        key, reason = reference_key(model, facts.version), f"{wanted.num_rows} rows of {wanted.source}"
        command = command_of("SetReference", key, to_json(wanted), reason, self.view, time.time_ns() // 1000)
        remedy = f"`isos models reference {model} {facts.version}` shows what stands."
        await self.propose(command, lambda view: reference(view, model, facts.version) == wanted, remedy)
        return wanted

    async def remove_reference(self, model: str, version: str) -> ModelVersion:
        """Have a version's rows compared with nothing; without a reference that is so already. Raises alike."""
        facts = facts_of(self.view, model, version)
        key = reference_key(model, facts.version)
        if key in self.view.entries:
            reason = f"the rows of {model} {facts.version} are compared with nothing any more"
            command = command_of("RemoveReference", key, "", reason, self.view, time.time_ns() // 1000)
            await self.propose(command, lambda view: key not in view.entries, f"`isos memory history {key}` shows it.")
        return facts
