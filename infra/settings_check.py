"""Everything that is wrong with the settings, or odd about them, at once; ``load_settings`` stops at the first."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from infra.rules import load_rules
from infra.settings import Settings, StartError, complaint, load_settings, misspelled, unwritable
from infra.settings_source import unknown_variables
from infra.stack_check import check_writable


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say of the settings; an error keeps the stack from starting. ``setting`` may be empty."""

    level: Literal["error", "warning"]
    setting: str
    sentence: str


def check_settings(flags: Mapping[str, Any]) -> list[Finding]:
    """Everything found, errors first; empty when all is well. ``flags`` are those of the command line."""
    variables = unknown_variables(os.environ, Settings.model_fields)
    errors = [Finding("error", name, misspelled(name, meant)) for name, meant in variables.items() if meant]
    warnings = [
        Finding("warning", name, f"{name} is no setting and is not read.")
        for name, meant in variables.items()
        if not meant
    ]
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        wrong = [Finding("error", ".".join(map(str, each["loc"])), complaint(each)) for each in error.errors()]
        return [*errors, *wrong, *warnings]
    except (ValueError, OSError):  # a file that is no TOML, or cannot be read: the sentence is load_settings'
        return [*errors, _unloadable(given), *warnings]
    return [*errors, *_folders(settings), *warnings, *_oddities(settings)]


def _unloadable(flags: Mapping[str, Any]) -> Finding:
    try:
        load_settings(**flags)
    except StartError as error:
        return Finding("error", "", str(error))
    return Finding("error", "", "The settings cannot be loaded.")


def check_data_dir(settings: Settings) -> Path:
    """Check that the data directory can be written, or made; makes none. Gives it, or the folder that would hold it.

    Raises:
        StartError: with one sentence.
    """
    folder = settings.data_dir
    if folder.is_dir():
        check_writable(settings)
        return folder
    above = next(each for each in (folder, *folder.parents) if each.exists())
    if not above.is_dir():
        raise unwritable(settings, NotADirectoryError(errno.ENOTDIR, f"{above} is no folder"))
    if not os.access(above, os.W_OK | os.X_OK):
        raise unwritable(settings, PermissionError(errno.EACCES, f"{above} may not be written"))
    return above


def _folders(settings: Settings) -> list[Finding]:
    found = []
    for setting, probe in (("data_dir", lambda: check_data_dir(settings)), ("", lambda: load_rules(settings.data_dir))):
        try:
            probe()
        except StartError as error:
            found.append(Finding("error", setting, str(error)))
    return found


def _oddities(settings: Settings) -> list[Finding]:
    """What is allowed and seldom meant."""
    found = [
        (name, f"{getattr(settings, name)} {name} share {settings.partitions} partitions: the others stand by idle.")
        for name in ("edges", "routers", "validators")
        if getattr(settings, name) > settings.partitions
    ]
    found += [
        (name, f"There are no {name}: nothing is answered until some are started.")
        for name in ("edges", "routers", "executors", "validators")
        if getattr(settings, name) == 0
    ]
    if 0 < settings.lanes < settings.executors:
        found.append(
            ("lanes", f"{settings.executors} executors share {settings.lanes} lanes: the others stand by idle.")
        )
    if settings.tick_ms * 4 > settings.default_timeout_ms:
        found.append(("tick_ms", "A request waits up to a tick at edge and executor: over a quarter of its budget."))
    if not settings.fence:
        found.append(("fence", "The fence is off: a frozen process that wakes up may answer requests a second time."))
    if not settings.tools_dir.is_dir():
        found.append(("tools_dir", f"{settings.tools_dir} is not there; `make setup` fills it."))
    return [Finding("warning", setting, sentence) for setting, sentence in found]
