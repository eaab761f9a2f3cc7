"""A model's manifest: what clients send and get, and which kernels run around the session. JSON or TOML.

    {"inputs":  [{"name": "image", "datatype": "UINT8", "shape": [-1, 64]}],
     "outputs": [{"name": "classes", "datatype": "INT64", "shape": [-1, 3]}, ...],
     "preprocess": ["scale_u8:16"], "postprocess": ["softmax", "top_k:3"], "max_batch_size": 128}

A shape starts with -1, the batch axis; a later -1 is a free axis. ``outputs`` may be left out.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from executors.kernels.kernel import KernelError
from executors.kernels.pipeline import parse
from executors.model_store import digest_of
from schemas.model import ModelVersion, TensorSpec
from streams.errors import IsosError
from streams.tensors import DATATYPES

MODEL_NAME: Final = re.compile(r"[a-zA-Z0-9_\-]{3,64}")
MODEL_VERSION: Final = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+")
MAX_TENSORS: Final = 16
MAX_AXES: Final = 8


class ManifestError(IsosError):
    """A manifest, a model name or a version is not well formed; ``problems`` are sentences, one per place."""

    def __init__(self, source: str, problems: tuple[str, ...]) -> None:
        super().__init__(source, problems)
        self.source = source
        self.problems = problems

    def __str__(self) -> str:
        return f"{self.source}: {'; '.join(self.problems)}"


class TensorEntry(BaseModel):
    """One public tensor. ``shape`` starts with -1 (the batch); ``allow_nan`` lets NaN and infinity pass the gate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    datatype: str
    shape: Annotated[tuple[int, ...], Field(min_length=1, max_length=MAX_AXES)]
    allow_nan: bool = False

    @field_validator("datatype")
    @classmethod
    def _served(cls, value: str) -> str:
        if value not in DATATYPES:
            raise ValueError(f"{value} is not served; known are {', '.join(DATATYPES)}")
        return value

    @field_validator("shape")
    @classmethod
    def _batch_first(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if value[0] != -1:
            raise ValueError("must start with -1, the batch axis")
        if any(axis < -1 or axis == 0 for axis in value):
            raise ValueError("an axis is a length above 0, or -1 for any length")
        return value

    def spec(self) -> TensorSpec:
        """The entry as a signature, without the batch axis."""
        return TensorSpec(self.name, self.datatype, self.shape[1:], self.allow_nan)


Tensors = Annotated[tuple[TensorEntry, ...], Field(min_length=1, max_length=MAX_TENSORS)]
Kernels = Annotated[tuple[str, ...], Field(max_length=MAX_TENSORS)]


class Manifest(BaseModel):
    """The whole manifest. ``description`` and ``labels`` are for people and stay in the file.

    Without ``outputs`` they are those of the model, after its kernels, as registration finds them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: Tensors
    outputs: Annotated[tuple[TensorEntry, ...], Field(max_length=MAX_TENSORS)] = ()
    preprocess: Kernels = ()
    postprocess: Kernels = ()
    max_batch_size: Annotated[int, Field(ge=1, le=128)] = 128
    deterministic: bool = True
    ordered: bool = False
    variant_of: Annotated[str, Field(pattern=f"^({MODEL_VERSION.pattern})?$")] = ""
    description: str = ""
    labels: tuple[str, ...] = ()

    @field_validator("preprocess", "postprocess")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                parse(text)
            except KernelError as error:
                raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _distinct(self) -> Manifest:
        for side in (self.inputs, self.outputs):
            if len({entry.name for entry in side}) < len(side):
                raise ValueError("two tensors of one side have the same name")
        return self

    def to_version(self, model: str, version: str, blob: bytes) -> ModelVersion:
        """The facts of a version of ``blob``. Raises ManifestError on a name or version that is not well formed."""
        problems = []
        if not MODEL_NAME.fullmatch(model):
            problems.append(f"the name `{model}` must be 3 to 64 of a-z, A-Z, 0-9, _ and -")
        if not MODEL_VERSION.fullmatch(version):
            problems.append(f"the version `{version}` must look like v1.0.0")
        if problems:
            raise ManifestError("model", tuple(problems))
        return ModelVersion(
            model, version, digest_of(blob), len(blob),
            tuple(entry.spec() for entry in self.inputs), tuple(entry.spec() for entry in self.outputs),
            self.preprocess, self.postprocess, self.max_batch_size, self.deterministic,
            self.ordered, self.variant_of,
        )  # fmt: skip


def read_manifest(text: str, source: str = "manifest") -> Manifest:
    """Read JSON (what starts with a brace) or TOML. Raises ManifestError naming every wrong place."""
    try:
        plain: Any = json.loads(text) if text.lstrip()[:1] in ("{", "[") else tomllib.loads(text)
    except ValueError as error:
        raise ManifestError(source, (f"is neither JSON nor TOML: {error}",)) from None
    try:
        return Manifest.model_validate(plain)
    except ValidationError as error:
        raise ManifestError(source, tuple(_sentence(problem) for problem in error.errors())) from None


def _sentence(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    words = str(problem["msg"]).removeprefix("Value error, ")
    return f"{place}: {words}" if place else words
