"""The demonstration's model: a classifier of the handwritten digits that scikit-learn ships, trained at set-up.

Writes ``digits.onnx``, ``manifest.json`` and ``heldout.npz`` (``images`` uint8 [n, 64] of 0-16, ``labels`` int64 [n]).
The same seed gives the same model on the same libraries; a directory that is complete is left alone.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx.helper as oh
import onnx.numpy_helper as nh
from onnx import TensorProto

MODEL: Final = "digits"
VERSION: Final = "v1.0.0"
PIXELS: Final = 64
DARKEST: Final = 16
CLASSES: Final = 10
TOP: Final = 3
SEED: Final = 7
HELD_OUT: Final = 0.3
OPSET: Final = 17
IR_VERSION: Final = 8

MANIFEST: Final[dict[str, Any]] = {
    "description": "Handwritten digits, 8 x 8 pixels of 0 to 16, row-major: the three most likely classes.",
    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, PIXELS]}],
    "outputs": [
        {"name": "classes", "datatype": "INT64", "shape": [-1, TOP]},
        {"name": "scores", "datatype": "FP32", "shape": [-1, TOP]},
    ],
    "preprocess": [f"scale_u8:{DARKEST}"],
    "postprocess": ["softmax", f"top_k:{TOP}"],
    "max_batch_size": 128,
    "deterministic": True,
    "labels": [str(digit) for digit in range(CLASSES)],
}


@dataclass(frozen=True, slots=True)
class Digits:
    """Where the files of the demonstration stand."""

    folder: Path

    @property
    def model(self) -> Path:
        """The ONNX file: ``image`` FP32 [n, 64] to ``logits`` FP32 [n, 10]."""
        return self.folder / "digits.onnx"

    @property
    def manifest(self) -> Path:
        """The manifest that it is registered with."""
        return self.folder / "manifest.json"

    @property
    def heldout(self) -> Path:
        """Images and labels that the training did not see."""
        return self.folder / "heldout.npz"

    def read_heldout(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Images uint8 [n, 64] and labels int64 [n]."""
        with np.load(self.heldout) as arrays:
            return arrays["images"], arrays["labels"]


def prepare(folder: Path) -> Digits:
    """Train and write the three files unless they are there; each appears whole. Takes about two seconds."""
    digits = Digits(folder)
    manifest = json.dumps(MANIFEST, indent=2).encode() + b"\n"
    if digits.model.is_file() and digits.heldout.is_file() and _holds(digits.manifest, manifest):
        return digits
    folder.mkdir(parents=True, exist_ok=True)
    blob, images, labels = train()
    packed = io.BytesIO()
    np.savez(packed, images=images, labels=labels)
    _replace(digits.model, blob)
    _replace(digits.heldout, packed.getvalue())
    _replace(digits.manifest, manifest)  # last: a complete directory has it
    return digits


def rotated(images: np.ndarray[Any, Any], quarter_turns: int = 1) -> np.ndarray[Any, Any]:
    """The images (uint8 [n, 64]) turned counterclockwise: rows that no model of upright digits was made for."""
    side = int(PIXELS**0.5)
    turned = np.rot90(images.reshape(-1, side, side), quarter_turns, axes=(1, 2))
    return np.ascontiguousarray(turned).reshape(-1, PIXELS)


def noisy(images: np.ndarray[Any, Any], deviation: float = 4.0, seed: int = SEED) -> np.ndarray[Any, Any]:
    """The images with normal noise of so many grey levels, within 0 to ``DARKEST``; the same seed, the same noise."""
    noise = np.random.default_rng(seed).normal(0.0, deviation, images.shape)
    made: np.ndarray[Any, Any] = np.clip(np.rint(images + noise), 0, DARKEST).astype(np.uint8)
    return made


def train(seed: int = SEED) -> tuple[bytes, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Train on 70 % and return the ONNX bytes, the held-out images (uint8 [n, 64]) and labels (int64 [n])."""
    # Imported here: half a second that only set-up pays.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    data = load_digits()
    images, labels = data.data.astype(np.uint8), data.target.astype(np.int64)
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        images, labels, test_size=HELD_OUT, random_state=seed, stratify=labels
    )
    network = MLPClassifier(
        (96,), max_iter=60, learning_rate_init=4e-3, tol=0.0, n_iter_no_change=60, random_state=seed
    )
    # All rounds are wanted: without a tolerance the solver never warns that it stopped early.
    _fit(network, seen.astype(np.float32) / DARKEST, seen_labels)
    return export(network.coefs_, network.intercepts_), unseen, unseen_labels


def _fit(network: Any, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of rounds is the stop, by intent
        network.fit(images, labels)


def export(weights: list[np.ndarray[Any, Any]], biases: list[np.ndarray[Any, Any]]) -> bytes:
    """Write the layers as ONNX: Gemm and Relu, the last without; weights[i]: [rows, columns], biases[i]: [columns]."""
    nodes, constants, current = [], [], "image"
    for layer, (matrix, bias) in enumerate(zip(weights, biases, strict=True)):
        last = layer == len(weights) - 1
        constants += [
            nh.from_array(matrix.astype(np.float32), f"w{layer}"),
            nh.from_array(bias.astype(np.float32), f"b{layer}"),
        ]
        made = "logits" if last else f"g{layer}"
        nodes.append(oh.make_node("Gemm", [current, f"w{layer}", f"b{layer}"], [made]))
        if not last:
            current = f"r{layer}"
            nodes.append(oh.make_node("Relu", [made], [current]))
    image = oh.make_tensor_value_info("image", TensorProto.FLOAT, ["n", PIXELS])
    logits = oh.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])
    graph = oh.make_graph(nodes, "digits", [image], [logits], constants)
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    blob: bytes = model.SerializeToString(deterministic=True)
    return blob


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _replace(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(content)
    aside.replace(path)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
