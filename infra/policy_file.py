"""Another policy for a control agent: a file with some of its parameters, checked field by field.

JSON (``.json``), TOML (``.toml``) or, where PyYAML is installed, YAML. What the file does not name stays as it is.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from streams.canonical import from_json, to_plain
from streams.errors import IsosError, PoisonRecordError

USAGE: Final = 2


class PolicyFileError(IsosError):
    """The file is no policy for the agent: one sentence for each thing that is wrong."""

    exit_code = USAGE

    def __init__(self, sentences: tuple[str, ...]) -> None:
        super().__init__(sentences)
        self.sentences = sentences

    def __str__(self) -> str:
        return "\n".join(self.sentences)


def read_policy(path: Path) -> Any:
    """What a file holds, by the ending of its name. Raises PolicyFileError."""
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise PolicyFileError((f"{path} must end in {', '.join(_PARSERS)}: its ending says how it is written.",))
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyFileError((f"{path} cannot be read: {error.strerror}.",)) from None
    except ValueError as error:
        raise PolicyFileError((f"{path} cannot be read: {' '.join(str(error).split())}.",)) from None


def with_policy(params: Any, wanted: Any) -> Any:
    """``params`` with the fields of ``wanted`` (plain data) in their place. Raises PolicyFileError, all at once."""
    if not isinstance(wanted, Mapping):
        raise PolicyFileError(("A policy is a table of parameters with their values.",))
    wrong: list[str] = []
    merged = _merge(params, wanted, "", wrong)
    if wrong:
        raise PolicyFileError(tuple(wrong))
    return merged


def changes(before: Any, after: Any, path: str = "") -> dict[str, list[Any]]:
    """Value before and after of each parameter that differs, by its dotted name."""
    found: dict[str, list[Any]] = {}
    for field in dataclasses.fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if dataclasses.is_dataclass(old):
            found |= changes(old, new, f"{path}{field.name}.")
        elif old != new:
            found[f"{path}{field.name}"] = [to_plain(old), to_plain(new)]
    return found


def _merge(params: Any, wanted: Mapping[Any, Any], path: str, wrong: list[str]) -> Any:
    known = {field.name for field in dataclasses.fields(params)}
    values: dict[str, Any] = {}
    for name, value in wanted.items():
        place = f"{path}{name}"
        if name not in known:
            wrong.append(f"{place} is no parameter; there are {', '.join(sorted(known))}.")
            continue
        before = getattr(params, name)
        if dataclasses.is_dataclass(before):
            if isinstance(value, Mapping):
                values[name] = _merge(before, value, f"{place}.", wrong)
            else:
                wrong.append(f"{place} is a table of parameters, not {_shown(value)}.")
            continue
        if isinstance(value, int | float) and value < 0:
            wrong.append(f"{place} must not be negative, but is {_shown(value)}.")
            continue
        try:
            plain = json.dumps({**to_plain(params), name: value}, allow_nan=False)
            values[name] = getattr(from_json(type(params), plain), name)
        except PoisonRecordError as error:
            wrong.append(f"{place} cannot be {_shown(value)}: {error.__cause__}.")
        except (TypeError, ValueError):
            wrong.append(f"{place} cannot be {_shown(value)}.")
    return dataclasses.replace(params, **values)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def _yaml(text: str) -> Any:
    if importlib.util.find_spec("yaml") is None:
        raise ValueError("PyYAML is not installed; JSON and TOML need nothing")
    library = importlib.import_module("yaml")
    try:
        return library.safe_load(text)
    except library.YAMLError as error:
        raise ValueError(str(error)) from None


_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    ".json": json.loads,
    ".toml": tomllib.loads,
    ".yaml": _yaml,
    ".yml": _yaml,
}
