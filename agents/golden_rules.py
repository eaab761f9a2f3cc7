"""Rule of the Orchestrator for golden sets: what a model's versions are checked by. The rows are a blob, not here."""

from __future__ import annotations

import re
from typing import Final

from agents.verdict import Change, Refusal, State, Verdict, keys_below
from schemas.check import GoldenSet
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion
from streams.canonical import from_json, to_json

DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def set_golden_set(state: State, command: MemoryCommand) -> Verdict:
    """Note which rows, with which answers, a model is checked by; a later set takes the place of the one before."""
    golden = from_json(GoldenSet, command.body)
    if command.key != f"golden/{golden.model}":
        sentence = f"The golden set of {golden.model} stands under golden/{golden.model}, not under {command.key}."
        return Refusal("invalid_body", sentence)
    versions = [
        from_json(ModelVersion, state.values[key].body, newer=True)
        for key in keys_below(state, f"model/{golden.model}/")
    ]
    if not versions:
        return Refusal("unknown_model", f"No model {golden.model} is registered.")
    if golden.problem or not DIGEST.fullmatch(golden.digest):
        problem = golden.problem or "a golden set is named by the SHA-256 of its file"
        return Refusal("invalid_golden_set", f"{problem[0].upper()}{problem[1:]}.")
    outputs = {spec.name for version in versions for spec in version.outputs}
    if golden.kind == "labels" and golden.output not in outputs:
        return Refusal("invalid_golden_set", f"No version of {golden.model} has an output {golden.output}.")
    return (Change("GoldenSetSet", command.key, to_json(golden)),)
