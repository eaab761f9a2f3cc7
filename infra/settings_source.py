"""Where each setting's value comes from, what is named like a setting and is none, and what must not be shown."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

PREFIX: Final = "ISOS_"
OTHER_VARIABLES: Final = (
    "ISOS_LOG_LEVEL",
    "ISOS_LIBRARY_LOG_LEVEL",
    "ISOS_NO_INSTALL",
    "ISOS_PROCESS_NAME",
    "ISOS_REWRITE_GOLDEN",
    "ISOS_STARTED_AT",
)
"""Variables of ours that are no settings."""
CLOSE: Final = 0.8
MASK: Final = "***"
_SECRET: Final = re.compile(r"password|secret|token|(^|_)key$")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from. ``kind``: flag, environment, file or default; ``place``: flag, variable or path."""

    kind: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.place}".strip()


def origins(
    names: Iterable[str], flags: Mapping[str, Any], environment: Mapping[str, str], files: Iterable[Path]
) -> dict[str, Origin]:
    """Origin of every setting; ``files`` by precedence, the first wins. Files that are not there say nothing."""
    given = {name.upper(): name for name in environment}
    tables = [(path, _table(path)) for path in files]
    found = {}
    for name in names:
        variable = given.get(f"{PREFIX}{name.upper()}")
        path = next((path for path, table in tables if name in table), None)
        if flags.get(name) is not None:
            found[name] = Origin("flag", "--data-dir" if name == "data_dir" else f"--set {name}")
        elif variable is not None:
            found[name] = Origin("environment", variable)
        elif path is not None:
            found[name] = Origin("file", str(path))
        else:
            found[name] = Origin("default")
    return found


def _table(path: Path) -> Mapping[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The one name that is meant, or nothing."""
    return next(iter(difflib.get_close_matches(name.lower(), list(names), 1, CLOSE)), "")


def unknown_variables(environment: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Variables that begin like ours and are none, each with the setting that is probably meant, or nothing."""
    known = list(names)
    ours = {f"{PREFIX}{name.upper()}" for name in known} | set(OTHER_VARIABLES)
    return {
        name: did_you_mean(name[len(PREFIX) :], known)
        for name in sorted(environment)
        if name.upper().startswith(PREFIX) and name.upper() not in ours
    }


def shown(name: str, value: Any) -> Any:
    """A setting's value as it may be shown: passwords in addresses and secrets are masked."""
    if _SECRET.search(name) and value:
        return MASK
    if isinstance(value, Path):
        return str(value)
    if name.endswith("webhook_url"):
        return host_of(value)
    return without_password(value) if isinstance(value, str) else value


def host_of(text: str) -> str:
    """An address up to its host: what follows in a webhook's address is its secret."""
    url = urlsplit(text)
    more = f"/{MASK}" if url.path.strip("/") or url.query or "@" in url.netloc else ""
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{more}" if text else text


def without_password(text: str) -> str:
    """An address without the password in it; any other text as it is."""
    if "://" not in text or "@" not in text:
        return text
    url = urlsplit(text)
    user, separator, _ = url.netloc.rpartition("@")[0].partition(":")
    host = url.netloc.rpartition("@")[2]
    return urlunsplit(url._replace(netloc=f"{user}:{MASK}@{host}" if separator else f"{user}@{host}"))
