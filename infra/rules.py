"""The Researcher's rules file: ``rules.toml`` in the data folder, else the one that comes with the program."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agents.constraint import Constraint, Rule
from infra.settings import StartError

FILE: Final = "rules.toml"


class _RuleEntry(BaseModel):
    """One ``[[rule]]`` table."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str = Field(pattern=r"^[a-zA-Z0-9_\-]{1,64}$")
    subject: str = Field(pattern=r"^model/(\*|[a-zA-Z0-9_\-]{3,64})$")
    field: Literal[
        "max_batch_size", "timeout_ms", "retention_s", "not_allowed_tenant", "not_allowed_region", "features_not_used"
    ]
    maximum: int = Field(0, ge=0)
    names: list[Annotated[str, Field(min_length=1, max_length=64)]] = []
    source: str = "rules file"

    @property
    def constraint(self) -> Constraint:
        """The rule's bound or ban."""
        return Constraint(self.field, self.maximum, tuple(self.names))

    @model_validator(mode="after")
    def _sound(self) -> _RuleEntry:
        if self.constraint.problem:
            raise ValueError(self.constraint.problem)
        return self


class _RulesFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    rule: list[_RuleEntry] = []

    @model_validator(mode="after")
    def _unique(self) -> _RulesFile:
        ids = [entry.id for entry in self.rule]
        if len(set(ids)) != len(ids):
            raise ValueError("two rules have the same id")
        return self


def load_rules(data_dir: Path) -> tuple[Rule, ...]:
    """Rules in the order of the file. Raises StartError with one sentence when the file is wrong."""
    own = data_dir / FILE
    name, text = str(own), ""
    try:
        if own.exists():
            text = own.read_text(encoding="utf-8")
        else:
            name, text = FILE, resources.files("infra").joinpath("config", FILE).read_text(encoding="utf-8")
        entries = _RulesFile.model_validate(tomllib.loads(text)).rule
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StartError(f"The rules file {name} cannot be read: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise StartError(f"The rules file {name} is wrong at {where}: {reason}.") from error
    return tuple(Rule(e.id, e.subject, e.constraint, e.source) for e in entries)
