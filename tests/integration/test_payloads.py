"""Payloads of every kind through a whole stack: images with kernels, texts, several tensors, free and empty axes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from executors.model_store import ModelStore
from infra.registration import Registrar
from schemas.model import ModelVersion, TensorSpec
from schemas.request import InferenceRequest, Tensor
from streams.blobs.blob_store import LocalBlobStore
from streams.client.client import Client, RequestRejectedError, to_bf16, to_tensor
from streams.connection import Connection
from streams.tensors import DTYPES
from tests.support import models
from tests.support.broker import unique
from tests.support.stack import RunningStack, wait_until

pytestmark = pytest.mark.timeout(180)

CLASSES = 5
MANIFEST = {
    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
    "preprocess": ["resize_bilinear:8,8", "image_to_float", "standardise:0.4,0.5,0.6,0.2,0.3,0.4"],
    "postprocess": ["softmax", "top_k:2"],
    "max_batch_size": 16,
}
NUMBERS = tuple(DTYPES)


def facts_of_words(blob: bytes) -> ModelVersion:
    outputs = (TensorSpec("label", "INT64", ()), TensorSpec("back", "BYTES", ()))
    return models.version_of(blob, (TensorSpec("word", "BYTES", ()),), outputs, name="words")


def facts_of_sums(blob: bytes) -> ModelVersion:
    inputs = (TensorSpec("a", "FP32", (3,)), TensorSpec("b", "INT8", (-1,)))
    outputs = (TensorSpec("sum", "FP32", (3,)), TensorSpec("total", "INT32", ()), TensorSpec("b2", "INT8", (-1,)))
    return models.version_of(blob, inputs, outputs, name="sums")


def facts_of_echo(blob: bytes, name: str, *datatypes: str) -> ModelVersion:
    inputs, outputs = (
        tuple(TensorSpec(f"{side}{at}", datatype, (-1, 2)) for at, datatype in enumerate(datatypes)) for side in "xy"
    )
    return models.version_of(blob, inputs, outputs, name=name)


@pytest.fixture(scope="module")
def stack(whole_stack: RunningStack) -> RunningStack:
    """The session's stack, serving the models of this module too."""
    asyncio.run(_register(whole_stack))
    return whole_stack


async def _register(running: RunningStack) -> None:
    store = ModelStore(running.settings.data_dir)
    words, sums = models.words(), models.sums()
    numbers, texts = models.echo(*NUMBERS, shape=("m", 2)), models.echo("BYTES", "INT8", shape=("m", 2))
    halves = models.doubled_bf16()
    pair = tuple(TensorSpec(name, "BF16", (2,)) for name in "xy")
    async with Registrar(Connection(running.settings.bootstrap), store) as registrar:
        for blob, facts in (
            (words, facts_of_words(words)),
            (sums, facts_of_sums(sums)),
            (numbers, facts_of_echo(numbers, "numbers", *NUMBERS)),
            (texts, facts_of_echo(texts, "texts", "BYTES", "INT8")),
            (halves, models.version_of(halves, pair[:1], pair[1:], name="halves")),
        ):
            await registrar.register(blob, facts)


def test_an_image_model_from_its_file_to_an_answer(stack: RunningStack, tmp_path: Any) -> None:
    blob = models.conv(CLASSES)
    (tmp_path / "conv.onnx").write_bytes(blob)
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    done = stack.isos_json(
        *("models", "register", str(tmp_path / "conv.onnx"), "--name", "photos", "--version", "v1.0.0"),
        *("--manifest", str(tmp_path / "manifest.json")),
    )
    assert (done["outcome"], done["planned"]) == ("registered", True)
    shown = stack.isos_json("models", "show", "photos")["versions"][0]
    assert [(each["name"], each["datatype"], each["item_shape"]) for each in shown["outputs"]] == [
        ("classes", "INT64", [2]), ("scores", "FP32", [2]),
    ]  # fmt: skip
    photo = np.random.default_rng(3).integers(0, 256, (3, 20, 31, 3), np.uint8)
    np.save(tmp_path / "photo.npy", photo)
    answer = stack.isos_json("infer", "photos", "--input", str(tmp_path / "photo.npy"))
    classes, scores = expected_of(blob, photo)
    assert answer["outputs"]["classes"] == classes.tolist()
    np.testing.assert_allclose(answer["outputs"]["scores"], scores, rtol=1e-3)


def expected_of(blob: bytes, photo: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The same by numpy, and by the model alone: two best classes and their shares."""
    from executors.provider import create

    height, width = photo.shape[1:3]

    def weights(size: int) -> np.ndarray[Any, Any]:
        source = np.clip((np.arange(8) + 0.5) * size / 8 - 0.5, 0, size - 1)
        return np.maximum(0, 1 - np.abs(source[:, None] - np.arange(size)))

    small = np.einsum("yh,nhwc,xw->nyxc", weights(height), photo.astype(np.float64), weights(width))
    pixels = np.floor(small + 0.5).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    means, spreads = (np.array(each, np.float32).reshape(3, 1, 1) for each in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    logits = create(blob, "cpu")[0].run(None, {"image": (pixels - means) / spreads})[0]
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    order = np.argsort(-shares, 1, kind="stable")[:, :2]
    return order, np.take_along_axis(shares, order, 1)


def test_a_manifest_whose_kernels_do_not_fit_is_refused_in_a_sentence(stack: RunningStack, tmp_path: Any) -> None:
    (tmp_path / "conv.onnx").write_bytes(models.conv(CLASSES))
    for change, code, words in (
        ({"preprocess": ["resize_bilinear:0,8"]}, 4, "the height must be a whole number from 1 to 4096, not 0"),
        ({"postprocess": ["top_k:6"]}, 4, "k must be a whole number from 1 to 5, not 6"),
        ({"preprocess": ["blur:3"]}, 2, "kernel `blur:3`: unknown; known are argmax"),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST | change))
        refused = stack.isos(
            *("models", "register", str(tmp_path / "conv.onnx"), "--name", "blurred", "--version", "v1.0.0"),
            *("--manifest", str(tmp_path / "manifest.json")),
            check=False,
        )
        assert (refused.returncode, words in refused.stderr) == (code, True), refused.stderr
        assert "Traceback" not in refused.stderr


async def test_texts_of_many_requests_keep_to_themselves(stack: RunningStack) -> None:
    """Requests of one to nine texts, which ride together in batches, each of another length."""
    known = ["cat", "dog", "", "é", "dog" * 50, "x" * 300]
    random = np.random.default_rng(11)
    asked = [[known[at] for at in random.integers(0, len(known), random.integers(1, 10))] for _ in range(120)]
    async with Client(stack.settings.bootstrap) as isos:
        answers = await asyncio.gather(*(isos.infer("words", {"word": np.array(each, object)}) for each in asked))
    for each, answer in zip(asked, answers, strict=True):
        labels = [{"cat": 0, "dog": 1}.get(word, -1) for word in each]
        assert answer.outputs["label"].tolist() == labels
        assert answer.outputs["back"].tolist() == [(b"cat", b"dog", b"?")[label] for label in labels]


def test_texts_on_the_command_line(stack: RunningStack) -> None:
    document = stack.isos_json("infer", "words", "--json", '["dog", "cow"]')
    assert document["outputs"] == {"label": [1, -1], "back": ["dog", "?"]}


async def test_texts_beside_numbers_with_free_and_empty_axes(stack: RunningStack) -> None:
    async with Client(stack.settings.bootstrap) as isos:
        for items, length in ((2, 3), (1, 1), (3, 0)):
            word = np.array([f"é{at}" for at in range(items * length * 2)], object).reshape(items, length, 2)
            number = np.arange(items * length * 2, dtype=np.int8).reshape(items, length, 2)
            answer = await isos.infer("texts", {"x1": number, "x0": word})
            assert answer.outputs["y0"].shape == (items, length, 2)
            assert [text.decode() for text in answer.outputs["y0"].ravel()] == word.ravel().tolist()
            np.testing.assert_array_equal(answer.outputs["y1"], number)


async def test_malformed_texts_are_refused_with_their_own_code(stack: RunningStack) -> None:
    async with Client(stack.settings.bootstrap) as isos:
        for data, words in (
            (b"\x09\0\0\0dog", "input word: element 1 of 1 ends behind the data, which has 7 bytes"),
            (b"\x01\0\0\0a\x01\0\0\0b", "input word: 5 bytes follow element 1, the shape takes 1"),
            (b"\x01\0\0\0\xff", "input word: element 1 of 1 is no UTF-8 text"),
        ):
            request = InferenceRequest(unique("r"), "words", (Tensor("word", "BYTES", (1,), data),))
            with pytest.raises(RequestRejectedError) as caught:
                (await isos.submit(request)).raise_for_status()
            assert (caught.value.code, caught.value.message) == ("malformed_bytes", words)


async def test_texts_in_a_blob(stack: RunningStack) -> None:
    """Stored by the edge because they are many, or by the client; what the door could not see is refused later."""
    store = LocalBlobStore.below(stack.settings.data_dir)
    many = np.array([[f"{at:06d}" * 20 for at in range(2 * 6_000)]], object).reshape(1, 6_000, 2)
    few = np.zeros((1, 6_000, 2), np.int8)
    async with Client(stack.settings.bootstrap) as isos:
        answer = await isos.infer("texts", {"x0": many, "x1": few})
        assert [text.decode() for text in answer.outputs["y0"].ravel()] == many.ravel().tolist()
        word = to_tensor("word", np.array(["dog", "cat"], object))
        no_text = b"\x01\0\0\0\xff\0\0\0\0"
        for data, code in ((word.data, "OK"), (no_text, "malformed_bytes"), (bytes(9), "blob_corrupt")):
            ref = await store.put(data)
            bare = Tensor("word", "BYTES", (2,), b"")
            got = await isos.submit(InferenceRequest(unique("r"), "words", (bare,), blob=ref))
            error = got.error()
            assert (error.code if error else got.result.status) == code


async def test_every_datatype_of_numbers(stack: RunningStack) -> None:
    random = np.random.default_rng(2)
    async with Client(stack.settings.bootstrap) as isos:
        for items, length in ((1, 2), (4, 1), (2, 0)):
            inputs = {
                f"x{at}": random.integers(0, 2, (items, length, 2)).astype(DTYPES[datatype])
                for at, datatype in enumerate(NUMBERS)
            }
            answer = await isos.infer("numbers", inputs)
            for at in range(len(NUMBERS)):
                assert answer.outputs[f"y{at}"].dtype == inputs[f"x{at}"].dtype
                np.testing.assert_array_equal(answer.outputs[f"y{at}"], inputs[f"x{at}"])


async def test_several_inputs_of_several_requests_in_one_batch(stack: RunningStack) -> None:
    random = np.random.default_rng(4)
    asked = [
        {
            "a": random.standard_normal((items, 3)).astype(np.float32),
            "b": random.integers(-9, 9, (items, random.integers(0, 3)), np.int8),
        }
        for items in random.integers(1, 5, 60)
    ]
    async with Client(stack.settings.bootstrap) as isos:
        answers = await asyncio.gather(*(isos.infer("sums", each) for each in asked))
    for each, answer in zip(asked, answers, strict=True):
        total = each["b"].sum(1, dtype=np.int32)
        np.testing.assert_array_equal(answer.outputs["total"], total)
        np.testing.assert_allclose(answer.outputs["sum"], each["a"] + total[:, None], rtol=1e-6)
        np.testing.assert_array_equal(answer.outputs["b2"], each["b"])


async def test_bf16(stack: RunningStack) -> None:
    values = np.array([[1.5, -300], [0.1, 1e30]], np.float32)
    halves = values.astype(ml_dtypes.bfloat16)
    async with Client(stack.settings.bootstrap) as isos:
        for sent in (halves, to_bf16(values)):
            answer = await isos.infer("halves", {"x": sent})
            np.testing.assert_array_equal(answer.outputs["y"], (halves + halves).astype(np.float32))
        with pytest.raises(RequestRejectedError, match="not_finite"):
            await isos.infer("halves", {"x": to_bf16(np.array([[np.nan, 1]], np.float32))})


def test_where_models_run_stands_in_the_status(stack: RunningStack) -> None:
    seen = wait_until(lambda: stack.isos_json("status").get("monitor"), 30, "figures of the Monitor")
    assert seen["models_on"] == "CPUExecutionProvider"
    assert 0 <= seen["useful"] <= seen["busy"] + 0.5
    assert 0 <= seen["batch_fill"] <= 1
