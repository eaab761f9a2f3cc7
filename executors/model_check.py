"""What a model must pass before it is registered: static checks on its bytes, then a first load in its own process.

Static: size, readable ONNX, IR version and opset that the runtime reads, no external data anywhere (also in sparse
tensors, sub-graphs, functions and training information; a hard link to a foreign file is external data too), no custom
operators. Then: it loads and runs within limits, its batch axis is free, and its signature is the manifest's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from executors.first_load import MIB, Trial
from executors.kernels.kernel import KernelError
from executors.kernels.pipeline import signature_after, signatures
from executors.signature import dtype_of, fits, signature_of
from schemas.model import ModelVersion, TensorSpec
from streams.tensors import count_of

MAX_MODEL_BYTES: Final = 512 * MIB
MAX_BATCH_BYTES: Final = 512 * MIB
MIN_IR_VERSION: Final = 3
MAX_IR_VERSION: Final = 13
MIN_OPSET: Final = 7
MAX_OPSET: Final = 26
"""Largest opset that ONNX Runtime 1.31 loads without its switch for unreleased ones (tried from 5 to 27)."""

DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator domains that the runtime itself implements."""

_SENTENCE_BYTES: Final = 300


@dataclass(frozen=True, slots=True)
class Limits:
    """What the first load may use: address space, processor seconds, wall seconds."""

    max_memory_bytes: int = 6144 * MIB
    max_cpu_s: int = 30
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check, with a sentence for people."""

    check: str
    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The findings, the last of which is the verdict, and the version with its outputs, derived where none stood."""

    findings: tuple[Finding, ...]
    version: ModelVersion


def check_model(blob: bytes, model: ModelVersion, limits: Limits | None = None) -> tuple[Finding, ...]:
    """Run all checks in order and stop at the first that fails: the last finding is the verdict."""
    return checked_model(blob, model, limits).findings


def checked_model(blob: bytes, model: ModelVersion, limits: Limits | None = None) -> Checked:
    """As ``check_model``; a version without outputs gets those of the model, after its kernels."""
    findings: list[Finding] = []
    checks = _checks(blob, model, limits or Limits())
    while not findings or findings[-1].passed:
        try:
            findings.append(next(checks))
        except StopIteration as end:
            return Checked(tuple(findings), end.value)
    return Checked(tuple(findings), model)


def _checks(blob: bytes, model: ModelVersion, limits: Limits) -> Generator[Finding, None, ModelVersion]:
    yield _size(blob)
    try:
        proto = onnx.ModelProto.FromString(blob)
    except DecodeError:
        yield Finding("readable", False, "the file is no ONNX model")
        return model
    yield Finding("readable", bool(proto.graph.output), "an ONNX graph" if proto.graph.output else "the graph is empty")
    yield _ir_version(proto)
    yield _opset(proto)
    yield _external_data(proto)
    yield _domains(proto)
    try:
        stages = signatures(model.inputs, model.preprocess)
    except KernelError as error:
        yield Finding("preprocess", False, str(error))
        return model
    session_inputs = stages[-1]
    if model.preprocess:
        yield _batch_bytes(stages, model.max_batch_size)
    found, finding = first_load(blob, session_inputs, model.max_batch_size, limits)
    yield finding
    yield _signature(found, model, session_inputs)
    if not model.outputs:
        model = replace(model, outputs=_made(found, model.postprocess))
    yield _runs(found, model)
    return model


def _size(blob: bytes) -> Finding:
    message = f"{len(blob):,} bytes, at most {MAX_MODEL_BYTES:,}"
    return Finding("size", 0 < len(blob) <= MAX_MODEL_BYTES, message)


def _ir_version(proto: onnx.ModelProto) -> Finding:
    passed = MIN_IR_VERSION <= proto.ir_version <= MAX_IR_VERSION
    remedy = "" if passed else f"; export it again with ir_version {MIN_IR_VERSION} to {MAX_IR_VERSION}"
    return Finding("ir_version", passed, f"IR version {proto.ir_version}{remedy}")


def _opset(proto: onnx.ModelProto) -> Finding:
    opsets = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    passed = bool(opsets) and all(MIN_OPSET <= opset <= MAX_OPSET for opset in opsets)
    remedy = "" if passed else f"; export it again with opset {MIN_OPSET} to {MAX_OPSET}"
    return Finding("opset", passed, f"opset {', '.join(map(str, opsets)) or 'missing'}{remedy}")


def _external_data(proto: onnx.ModelProto) -> Finding:
    for message in _walk(proto):
        outside = isinstance(message, onnx.TensorProto) and (
            message.external_data or message.data_location == onnx.TensorProto.EXTERNAL
        )
        if outside:
            name = str(getattr(message, "name", "")) or "without a name"
            return Finding("external_data", False, f"tensor {name} lies in another file; save the model as one file")
    return Finding("external_data", True, "all data is inside")


def _domains(proto: onnx.ModelProto) -> Finding:
    own = {(function.domain, function.name) for function in proto.functions}
    for message in _walk(proto):
        custom = (
            isinstance(message, onnx.NodeProto)
            and message.domain not in DOMAINS
            and (message.domain, message.op_type) not in own
        )
        if custom:
            node: Any = message
            return Finding("operators", False, f"operator {node.domain}::{node.op_type} is no standard operator")
    return Finding("operators", True, "standard operators only")


def _walk(message: Message) -> Iterator[Message]:
    """A message and all messages inside it, whatever field they stand in; depth is bounded by the parser (100)."""
    yield message
    for field, content in message.ListFields():
        if field.message_type is None:
            continue
        for inner in [content] if isinstance(content, Message) else content:
            yield from _walk(inner)


def first_load(
    blob: bytes, session_inputs: Sequence[TensorSpec], max_batch_size: int, limits: Limits
) -> tuple[dict[str, Any], Finding]:
    """Load and run in a process of its own: its findings (see ``executors.first_load``) and the verdict."""
    shapes = {spec.name: tuple(max(axis, 1) for axis in spec.item_shape) for spec in session_inputs}
    trial = Trial(os.getpid(), limits.max_memory_bytes, limits.max_cpu_s, shapes, tuple(sorted({1, 2, max_batch_size})))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "executors.first_load"],
            input=trial.to_line() + blob, capture_output=True, timeout=limits.timeout_s, check=False,
            env=_environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {}, Finding("first_load", False, f"loading and running took longer than {limits.timeout_s:g} s")
    if done.returncode != 0:
        return {}, Finding("first_load", False, _end(done.returncode, done.stderr, limits))
    found: dict[str, Any] = json.loads(done.stdout)
    if "error" in found:
        return found, Finding("first_load", False, found["error"])
    return found, Finding("first_load", True, f"loaded in {found['load_ms']:.0f} ms")


def _environment() -> dict[str, str]:
    """Nothing of ours but where the program is found; one thread per library."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _end(returncode: int, stderr: bytes, limits: Limits) -> str:
    """Why the process ended without findings."""
    if returncode < 0:
        return (
            f"the process was ended by signal {-returncode}: it may use {limits.max_memory_bytes // MIB} MiB of memory "
            f"and {limits.max_cpu_s} s of processor time"
        )
    last = stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1]
    return f"the process ended with code {returncode}: {last[:_SENTENCE_BYTES]}"


def _signature(found: dict[str, Any], model: ModelVersion, session_inputs: Sequence[TensorSpec]) -> Finding:
    try:
        inputs, outputs = (
            signature_of([SimpleNamespace(**entry) for entry in found[side]]) for side in ("inputs", "outputs")
        )
        made = signature_after(outputs, model.postprocess)
        wrong = _mismatch("input", session_inputs, inputs) or (
            _mismatch("output", model.outputs, made) if model.outputs else None
        )
    except (ValueError, KernelError) as error:
        return Finding("signature", False, str(error))
    return Finding("signature", wrong is None, wrong or "the manifest's signature is the model's")


def _made(found: dict[str, Any], postprocess: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Outputs of the model after its kernels."""
    return signature_after(signature_of([SimpleNamespace(**entry) for entry in found["outputs"]]), postprocess)


def _batch_bytes(stages: Sequence[Sequence[TensorSpec]], max_batch_size: int) -> Finding:
    """What the largest batch takes where it takes most, free axes not counted."""
    widths = [sum(_item_bytes(spec) for spec in stage) for stage in stages]
    size = max(widths) * max_batch_size
    message = f"a batch of {max_batch_size} takes {size:,} bytes between the kernels, at most {MAX_BATCH_BYTES:,}"
    return Finding("preprocess", size <= MAX_BATCH_BYTES, message)


def _item_bytes(spec: TensorSpec) -> int:
    return count_of([max(1, axis) for axis in spec.item_shape]) * dtype_of(spec.datatype).itemsize


def _mismatch(side: str, stated: Sequence[TensorSpec], real: Sequence[TensorSpec]) -> str | None:
    """What differs between the manifest (around its kernels) and the model; a free axis of the model may be stated."""
    by_name = {spec.name: spec for spec in real}
    if {spec.name for spec in stated} != set(by_name):
        return f"the manifest's {side}s are {_names(stated)}, the model's are {_names(real)}"
    for spec in stated:
        have = by_name[spec.name]
        if spec.datatype != have.datatype or not fits(have, spec.item_shape):
            return f"{side} `{spec.name}`: the manifest says {_text(spec)}, the model has {_text(have)}"
    return None


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(sorted(spec.name for spec in specs))


def _text(spec: TensorSpec) -> str:
    return f"{spec.datatype} {[-1, *spec.item_shape]}"


def _runs(found: dict[str, Any], model: ModelVersion) -> Finding:
    """Whether it ran, every output's first axis was the number of items, and the item shapes are those stated."""
    if "run_error" in found:
        return Finding("first_run", False, found["run_error"])
    stated = {} if model.postprocess else {spec.name: spec for spec in model.outputs}
    for size, outputs in zip(sorted({1, 2, model.max_batch_size}), found["runs"], strict=True):
        for name, shape in outputs.items():
            if shape[:1] != [size] or (name in stated and not fits(stated[name], shape[1:])):
                return Finding("first_run", False, f"output `{name}` came out as {shape} for {size} items")
    return Finding("first_run", True, f"ran with 1 to {model.max_batch_size} items in one batch")
