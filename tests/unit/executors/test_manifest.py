"""Manifests: JSON and TOML read alike, every wrong place is named in a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executors.manifest import ManifestError, read_manifest
from executors.model_store import digest_of
from schemas.model import ModelVersion, TensorSpec

PLAIN: dict[str, Any] = {
    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 64]}],
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 3], "allow_nan": True}],
    "preprocess": ["scale_u8:16"],
    "max_batch_size": 32,
}
TOML = """
preprocess = ["scale_u8:16"]
max_batch_size = 32
[[inputs]]
name = "image"
datatype = "UINT8"
shape = [-1, 64]
[[outputs]]
name = "scores"
datatype = "FP32"
shape = [-1, 3]
allow_nan = true
"""


def test_json_and_toml_are_read_alike() -> None:
    assert read_manifest(json.dumps(PLAIN)) == read_manifest(TOML)


def test_to_version() -> None:
    assert read_manifest(TOML).to_version("digits", "v1.0.0", b"blob") == ModelVersion(
        "digits", "v1.0.0", digest_of(b"blob"), 4,
        (TensorSpec("image", "UINT8", (64,)),), (TensorSpec("scores", "FP32", (3,), True),),
        ("scale_u8:16",), (), 32, True,
    )  # fmt: skip


def test_a_variant_says_of_what_it_is_one() -> None:
    found = read_manifest(json.dumps({**PLAIN, "variant_of": "v1.0.0"})).to_version("digits", "v1.1.0", b"blob")
    assert found.variant_of == "v1.0.0"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "x", "datatype": "FP8", "shape": [-1]}]}, "inputs.0.datatype: FP8 is not served"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [4]}]}, "inputs.0.shape: must start with -1"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 0]}]}, "an axis is a length above 0"),
        ({"inputs": PLAIN["inputs"] * 2}, "same name"),
        ({"postprocess": ["nothing"]}, "unknown; known are"),
        ({"max_batch_size": 129}, "max_batch_size"),
        ({"max_batch": 3}, "max_batch"),
        ({"variant_of": "1.0"}, "variant_of"),
    ],
)
def test_wrong_places_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(json.dumps(PLAIN | change), "m.json")
    assert str(caught.value).startswith("m.json: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["{", "a b c", "[1]", "\0"])
def test_what_is_no_manifest(text: str) -> None:
    with pytest.raises(ManifestError):
        read_manifest(text)


@pytest.mark.parametrize(
    ("name", "version"), [("ab", "v1.0.0"), ("a b c", "v1.0.0"), ("abc", "1.0"), ("abc\n", "v1.0.0"), ("abc", "v1.0.٣")]
)
def test_names_and_versions(name: str, version: str) -> None:
    with pytest.raises(ManifestError, match="must"):
        read_manifest(TOML).to_version(name, version, b"")
