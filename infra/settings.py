"""All settings of the program. Precedence: flag, ``ISOS_`` environment, isos.toml, user file, default.

The stack passes its settings on to every child as environment (``infra.child_environment``).
"""

from __future__ import annotations

import functools
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from infra.settings_source import did_you_mean, unknown_variables, without_password
from streams.errors import IsosError

PROJECT_FILE: Final = "isos.toml"
USER_FILE: Final = "~/.config/isos/isos.toml"
ROOT: Final = Path(__file__).resolve().parent.parent

_ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.\-]+):[0-9]{1,5}")

MAX_TIMEOUT_MS: Final = 3_600_000
"""Frames are kept two hours: what waits longer than one could be gone before it is answered."""

Port = Annotated[int, Field(ge=1, le=65535)]
Instances = Annotated[int, Field(ge=0, le=64)]
Partitions = Annotated[int, Field(ge=1, le=256)]


class StartError(IsosError):
    """Something outside the program keeps it from starting: one sentence for the person, and an exit code."""

    def __init__(self, sentence: str, exit_code: int = 6) -> None:
        super().__init__(sentence, exit_code)
        self.sentence = sentence
        self.exit_code = exit_code

    def __str__(self) -> str:
        return self.sentence


class Settings(BaseSettings):
    """What a person may set. Ports are TCP ports on 127.0.0.1, times and rates carry their unit in the name."""

    model_config = SettingsConfigDict(
        env_prefix="ISOS_",
        frozen=True,
        extra="forbid",
        toml_file=PROJECT_FILE,
        env_ignore_empty=False,
        hide_input_in_errors=True,  # an address may hold a password
    )

    data_dir: Path = Field(Path(".isos"), description="Folder of logs, topics, models and process state.")
    tools_dir: Path = Field(
        ROOT / ".isos", description="Folder that set-up filled: broker jars, unpacked servers, compiled kernels."
    )
    brokers: str = Field("", description="Kafka bootstrap addresses, host:port with commas; empty starts a broker.")
    broker_port: Port = Field(19092, description="Port of the broker that the stack starts.")
    controller_port: Port = Field(19093, description="Port of that broker's KRaft controller.")
    redis_url: str = Field("", description="Address of a running Redis, redis://...; empty starts one.")
    redis_port: Port = Field(16379, description="Port of the Redis that the stack starts.")
    registry_url: str = Field("", description="Address of a Confluent-compatible schema registry; empty starts ours.")
    registry_port: Port = Field(18081, description="Port of our schema registry.")
    registry_host: str = Field(
        "127.0.0.1", description="Address our schema registry listens on; 0.0.0.0 only inside a container."
    )
    partitions: Partitions = Field(
        1,
        description="Partitions of inference.requests, admitted, executed and results: the most processes of a stage.",
    )
    lanes: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="Least fast lanes of inference.routed, which grows when more are asked; 0: one per executor."
    )
    edges: Instances = Field(1, description="Edge processes.")
    routers: Instances = Field(1, description="Router processes.")
    executors: Instances = Field(1, description="Executor processes at the start.")
    max_executors: Instances = Field(
        0, description="Most executor processes that scaling may start, each with a fast lane; 0: as many as executors."
    )
    slow_executors: Instances = Field(
        1, description="Executor processes, each with a lane, for models whose full batch takes over 5 ms."
    )
    max_slow_executors: Instances = Field(
        0, description="Most of those that scaling may start, each with a slow lane; 0: as many as slow_executors."
    )
    validators: Instances = Field(1, description="Validator processes.")
    default_timeout_ms: int = Field(
        30_000, ge=1, le=MAX_TIMEOUT_MS, description="Budget of a request that states none, milliseconds."
    )
    max_timeout_ms: int = Field(
        120_000, ge=1, le=MAX_TIMEOUT_MS, description="Largest budget a request may state, milliseconds."
    )
    grace_ms: int = Field(
        10_000, ge=0, le=600_000, description="Time after its budget before the reaper answers a request."
    )
    tick_ms: int = Field(
        10, ge=1, le=1000, description="Least time over which edge and executor gather a frame, milliseconds."
    )
    session_timeout_s: int = Field(6, ge=1, le=120, description="Silence after which a consumer loses its partitions.")
    tenant_rate_per_s: float = Field(
        1_000_000, gt=0, le=1e9, allow_inf_nan=False, description="Requests per second that a tenant may send."
    )
    tenant_burst: int = Field(1_000_000, ge=1, le=1_000_000_000, description="Requests that a tenant may send at once.")
    blob_threshold_bytes: int = Field(
        262_144, ge=1, description="Tensor data of a request, bytes, above which it travels as a blob."
    )
    blob_keep_s: int = Field(
        86_400, ge=0, description="How long a blob stays that no retained record can name, seconds."
    )
    blob_collect_s: int = Field(3_600, ge=1, description="Seconds from one collection of blobs to the next.")
    request_id_window_s: int = Field(
        300, ge=1, le=86_400, description="How long a tenant's request id stands for one request, seconds."
    )
    cache_key_file: str = Field(
        "", description="File with the secret of cached answers; empty: keys/cache.key of data_dir, made when missing."
    )
    cache_bytes: int = Field(
        67_108_864, ge=1_048_576, description="Most bytes that cached answers take in Redis; models opt in one by one."
    )
    cache_local_bytes: int = Field(
        33_554_432, ge=0, description="Most bytes of cached answers that each Router keeps itself."
    )
    statistics_s: float = Field(
        5.0, ge=0.5, le=60, allow_inf_nan=False, description="Seconds that executors count rows for drift at a time."
    )
    drift_window_s: int = Field(
        60, ge=5, le=3_600, description="How far back rows are compared with their version's reference, seconds."
    )
    drift_min_rows: int = Field(
        200, ge=20, le=1_000_000, description="Rows of a version within that time below which drift is not judged."
    )
    decision_sample: int = Field(
        100, ge=0, le=1_000_000, description="Of how many frames a Router keeps one decision for `isos replay router`."
    )
    known_good_rows: int = Field(
        200, ge=1, le=1_000_000_000, description="Rows that a version answers well before it counts as known good."
    )
    known_good_s: int = Field(60, ge=1, le=86_400, description="Seconds over which it does so.")
    memory_bound_s: int = Field(
        600, ge=5, le=86_400, description="Seconds without a sign of memory's writer after which Routers refuse rows."
    )
    alert_webhook_url: str = Field(
        "", description="Address that alerts and escalations are posted to as JSON, http(s)://...; empty: only the log."
    )
    user: Annotated[str, Field(max_length=64)] = Field(
        "", description="Who runs a command, for the audit log; empty: the account of the operating system."
    )
    change_ticket: Annotated[str, Field(max_length=64)] = Field(
        "", description="Number of the change that a command belongs to, for the audit log."
    )
    environment: Literal["sandbox", "staging", "production"] = Field(
        "sandbox", description="What the stack is started as; memory's own is raised by it, never lowered."
    )
    review_deadline_s: int = Field(
        86_400, ge=1, le=2_592_000, description="Seconds after which a review that nobody decided is refused."
    )
    review_key_file: str = Field(
        "", description="File with the private key that you sign with; empty: ~/.config/isos/review-key.pem."
    )
    review_passphrase_file: str = Field(
        "", description="File whose first line is that key's passphrase; empty: it is asked for on the terminal."
    )
    broker_jit: Literal["quick", "steady"] = Field(
        "quick", description="How the broker's code is compiled: quick starts sooner, steady costs less after minutes."
    )
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="Where models run: cuda fails without a GPU, auto says when it falls back to the CPU."
    )
    region: str = Field(
        "", pattern=r"^[a-zA-Z0-9_\-]{0,64}$", description="Where this stack stands, for the rules file."
    )
    fence: bool = Field(True, description="Shut out a frozen predecessor's writes; off only to show that tests see it.")
    restart_frozen: bool = Field(False, description="Restart a process that stands stopped (SIGSTOP) for 10 s.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: flags, environment, project file, user file."""
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, Path(PROJECT_FILE)),
            TomlConfigSettingsSource(settings_cls, Path(USER_FILE).expanduser()),
        )

    @field_validator("data_dir", "tools_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("brokers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        wrong = [each.strip() for each in value.split(",") if value and not _ADDRESS.fullmatch(each.strip())]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not host:port")
        high = [each.strip() for each in value.split(",") if value and not 0 < int(each.rpartition(":")[2]) < 65_536]
        if high:
            raise ValueError(f"{high[0]!r} has no port between 1 and 65535")
        return value

    @field_validator("redis_url", "registry_url")
    @classmethod
    def _url(cls, value: str, info: ValidationInfo) -> str:
        schemes = ("redis", "rediss") if info.field_name == "redis_url" else ("http", "https")
        url = urlsplit(value)
        if value and not (url.scheme in schemes and url.hostname):
            raise ValueError(f"{without_password(value)!r} is not an address that begins with {schemes[0]}://")
        if value and url.port == 0:  # one that is no number raises ValueError itself
            raise ValueError(f"{without_password(value)!r} has no port between 1 and 65535")
        return value

    @field_validator("alert_webhook_url")
    @classmethod
    def _webhook(cls, value: str) -> str:
        url = urlsplit(value)
        if value and not (url.scheme in ("http", "https") and url.hostname):
            raise ValueError("it is not an address that begins with http:// or https://")  # it may hold a secret
        if value and url.port == 0:
            raise ValueError("it has no port between 1 and 65535")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.default_timeout_ms > self.max_timeout_ms:
            raise ValueError("default_timeout_ms is larger than max_timeout_ms")
        if self.tick_ms * 3 > self.session_timeout_s * 1000:
            raise ValueError("tick_ms must be at most a third of session_timeout_s: heartbeats go between ticks")
        if 0 < self.max_executors < self.executors:
            raise ValueError("max_executors is smaller than executors")
        if self.max_slow_executors and not 0 < self.slow_executors <= self.max_slow_executors:
            raise ValueError("slow_executors is 1 to max_slow_executors, where that is set")
        ports = (self.broker_port, self.controller_port, self.redis_port, self.registry_port)
        if len(set(ports)) != len(ports):
            raise ValueError("broker_port, controller_port, redis_port and registry_port must differ")
        return self

    @property
    def num_lanes(self) -> int:
        """Partitions that inference.routed needs: fast lanes as set, else one per executor, and the slow ones."""
        return max(1, self.lanes or self.executors, self.max_executors) + self.num_slow_lanes

    @property
    def most_executors(self) -> int:
        """The most executors of fast lanes; instances from this number on are those of the slow ones."""
        return max(self.executors, self.max_executors)

    @property
    def num_slow_lanes(self) -> int:
        """How many of the lanes, the last ones, are for slow models; none where no executor is started here."""
        return max(self.slow_executors, self.max_slow_executors) if self.most_executors else 0

    @property
    def bootstrap(self) -> str:
        """Kafka addresses that clients use: the given ones, or the stack's own broker."""
        return self.brokers or f"127.0.0.1:{self.broker_port}"

    @property
    def redis_address(self) -> str:
        """Redis URL that clients use: the given one, or the stack's own server."""
        return self.redis_url or f"redis://127.0.0.1:{self.redis_port}/0"

    @property
    def registry_address(self) -> str:
        """Schema registry URL that clients use: the given one, or ours."""
        return self.registry_url or f"http://127.0.0.1:{self.registry_port}"

    @property
    def cache_key_path(self) -> Path:
        """File with the secret of cached answers."""
        return Path(self.cache_key_file).expanduser() if self.cache_key_file else self.data_dir / "keys" / "cache.key"

    @property
    def log_dir(self) -> Path:
        """Folder with one log per process."""
        return self.data_dir / "logs"

    @property
    def run_dir(self) -> Path:
        """Folder of state files, locks and readiness files."""
        return self.data_dir / "run"

    @property
    def jars_dir(self) -> Path:
        """Folder of the broker's jars and its class archive."""
        return self.tools_dir / "jars"


def load_settings(**flags: Any) -> Settings:
    """Read all sources; ``flags`` that are None count as not given.

    Raises:
        StartError: with exit code 2, when a value is invalid, a name is misspelled, or a file is not TOML.
    """
    for variable, meant in unknown_variables(os.environ, Settings.model_fields).items():
        if meant:
            raise StartError(misspelled(variable, meant), exit_code=2)
        _warn_once(f"isos: {variable} is no setting and is not read; README.md lists them.")
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise StartError(complaint(error.errors()[0]), exit_code=2) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartError(f"A settings file is not valid TOML: {error}.", exit_code=2) from error
    except OSError as error:
        raise StartError(f"A settings file cannot be read: {error}.", exit_code=6) from error


def complaint(error: ErrorDetails) -> str:
    """Give one of pydantic's errors as a sentence."""
    field = ".".join(str(part) for part in error["loc"])
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        meant = did_you_mean(field, Settings.model_fields)
        reason = f"there is no such setting; {f'did you mean {meant}?' if meant else 'README.md lists them'}"
    where = f"the setting {field} (ISOS_{field.upper()})" if field else "the settings"
    return f"Invalid value for {where}: {reason}{'' if reason.endswith('?') else '.'}"


def misspelled(variable: str, meant: str) -> str:
    """Give the sentence about a variable that is nearly one of ours."""
    return f"{variable} is no setting; did you mean ISOS_{meant.upper()}?"


@functools.cache
def _warn_once(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def unwritable(settings: Settings, error: OSError) -> StartError:
    """Make the error of a data directory that cannot be written."""
    reason = error.strerror or str(error)
    return StartError(f"The data directory {settings.data_dir} cannot be written: {reason} (setting data_dir).")
