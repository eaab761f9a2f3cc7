"""The demonstration's model: accurate on held-out images through its public signature, written once."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from executors.manifest import read_manifest
from executors.session import ModelSession
from infra.digits import MODEL, VERSION, Digits, noisy, prepare, rotated


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    start = time.perf_counter()
    made = prepare(tmp_path_factory.mktemp("digits"))
    assert time.perf_counter() - start < 30
    return made


def test_accuracy_on_held_out_images(digits: Digits) -> None:
    blob = digits.model.read_bytes()
    manifest = read_manifest(digits.manifest.read_text())
    session = ModelSession.load(blob, manifest.to_version(MODEL, VERSION, blob), "cpu")
    images, labels = digits.read_heldout()
    assert images.dtype == np.uint8
    assert images.shape == (540, 64)
    classes = np.concatenate([session.run({"image": images[at : at + 128]})["classes"] for at in range(0, 540, 128)])
    assert (classes[:, 0] == labels).mean() > 0.95
    assert (classes == labels[:, None]).any(1).mean() > 0.98


def test_a_complete_directory_is_left_alone(digits: Digits) -> None:
    stamps = {path.name: path.stat().st_mtime_ns for path in digits.folder.iterdir()}
    prepare(digits.folder)
    assert {path.name: path.stat().st_mtime_ns for path in digits.folder.iterdir()} == stamps
    assert sorted(stamps) == ["digits.onnx", "heldout.npz", "manifest.json"]


def test_training_again_gives_the_same_bytes(digits: Digits, tmp_path: Path) -> None:
    assert prepare(tmp_path).model.read_bytes() == digits.model.read_bytes()


def test_a_digit_is_turned_and_comes_back_after_four_quarters() -> None:
    image = np.arange(64, dtype=np.uint8)[None] % 17
    turned = rotated(image)
    assert turned[0, 0] == image[0, 7]
    assert rotated(image, 4).tolist() == image.tolist()
    assert rotated(rotated(image), 3).tolist() == image.tolist()


def test_noise_is_the_same_each_time_and_stays_within_the_grey_levels() -> None:
    images = np.full((20, 64), 8, np.uint8)
    made = noisy(images)
    assert made.tolist() == noisy(images).tolist()
    assert made.dtype == np.uint8
    assert (int(made.min()), int(made.max())) == (0, 16)
    assert 3 < made.std() < 4.5
