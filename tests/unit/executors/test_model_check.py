"""Registration checks: each refusal by the check that is meant to make it, in a sentence."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh
import pytest

from executors.first_load import MIB
from executors.model_check import Finding, Limits, check_model, checked_model
from schemas.model import TensorSpec
from streams.tensors import DATATYPES
from tests.support import models

TIGHT = Limits(max_memory_bytes=1000 * MIB, max_cpu_s=2, timeout_s=20)


def verdict(blob: bytes, limits: Limits | None = None, **facts: Any) -> Finding:
    return check_model(blob, models.version_of(blob, **facts), limits)[-1]


def edited(blob: bytes, **fields: Any) -> tuple[onnx.ModelProto, bytes]:
    proto = onnx.ModelProto.FromString(blob)
    for name, content in fields.items():
        setattr(proto, name, content)
    return proto, proto.SerializeToString()


def test_a_good_model_passes_every_check() -> None:
    findings = check_model(models.identity(), models.version_of(models.identity()))
    assert all(finding.passed for finding in findings)
    assert [finding.check for finding in findings] == [
        "size", "readable", "ir_version", "opset", "external_data", "operators",
        "first_load", "signature", "first_run",
    ]  # fmt: skip


def test_kernels_are_part_of_the_signature() -> None:
    blob = models.mlp((4, 8, 5))
    outputs = (TensorSpec("classes", "INT64", (3,)), TensorSpec("scores", "FP32", (3,)))
    around = {
        "inputs": (TensorSpec("x", "UINT8", (4,)),),
        "preprocess": ("scale_u8",),
        "postprocess": ("softmax", "top_k:3"),
    }
    assert verdict(blob, outputs=outputs, **around).passed
    wrong = verdict(blob, outputs=(outputs[0],), **around)
    assert (wrong.check, wrong.passed) == ("signature", False)
    assert not verdict(blob, outputs=outputs, **(around | {"preprocess": ("softmax",)})).passed


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"inputs": (TensorSpec("a", "FP32", (4,)),)}, "the manifest's inputs are a"),
        ({"inputs": (TensorSpec("x", "FP32", (5,)),)}, ""),
        ({"inputs": (TensorSpec("x", "FP64", (4,)),)}, "FP64"),
        ({"outputs": (TensorSpec("y", "FP32", (4, 1)),)}, "output `y`"),
    ],
)
def test_a_manifest_of_another_model(facts: dict[str, Any], words: str) -> None:
    finding = verdict(models.identity(), **facts)
    assert not finding.passed
    assert words in finding.message


@pytest.mark.parametrize("left_out", ["BF16", "BYTES"])
def test_models_of_every_datatype_pass(left_out: str) -> None:
    mine = [datatype for datatype in DATATYPES if datatype != left_out]
    inputs, outputs = (
        tuple(TensorSpec(f"{side}{at}", datatype, (-1,)) for at, datatype in enumerate(mine)) for side in "xy"
    )
    assert verdict(models.echo(*mine), inputs=inputs, outputs=outputs).passed


def test_texts_beside_bf16_are_refused_with_a_sentence() -> None:
    inputs = (TensorSpec("x0", "BYTES", (-1,)), TensorSpec("x1", "BF16", (-1,)))
    outputs = (TensorSpec("y0", "BYTES", (-1,)), TensorSpec("y1", "BF16", (-1,)))
    finding = verdict(models.echo("BYTES", "BF16"), inputs=inputs, outputs=outputs)
    assert (finding.check, finding.passed) == ("first_run", False)
    assert finding.message == "a model with inputs of BYTES and tensors of BF16 is not served"


def test_words_sums_and_images_pass() -> None:
    word, label = TensorSpec("word", "BYTES", ()), TensorSpec("label", "INT64", ())
    assert verdict(models.words(), inputs=(word,), outputs=(label, TensorSpec("back", "BYTES", ()))).passed
    a, b = TensorSpec("a", "FP32", (3,)), TensorSpec("b", "INT8", (-1,))
    made = (TensorSpec("sum", "FP32", (3,)), TensorSpec("total", "INT32", ()), TensorSpec("b2", "INT8", (-1,)))
    assert verdict(models.sums(), inputs=(a, b), outputs=made).passed
    photo = TensorSpec("image", "UINT8", (-1, -1, 3))
    best = (TensorSpec("classes", "INT64", (2,)), TensorSpec("scores", "FP32", (2,)))
    chain = {"preprocess": ("resize_bilinear:8,8", "image_to_float"), "postprocess": ("softmax", "top_k:2")}
    assert verdict(models.conv(), inputs=(photo,), outputs=best, **chain).passed


def test_a_free_axis_of_the_model_may_be_fixed_by_the_manifest() -> None:
    blob = models.free_axis()
    outputs = (TensorSpec("y", "FP32", ()),)
    assert verdict(blob, inputs=(TensorSpec("x", "FP32", (7,)),), outputs=outputs).passed
    assert verdict(blob, inputs=(TensorSpec("x", "FP32", (-1,)),), outputs=outputs).passed


@pytest.mark.parametrize("blob", [b"", b"garbage", b"\xff" * 100])
def test_what_is_no_model(blob: bytes) -> None:
    assert verdict(blob).check in ("size", "readable")
    assert not verdict(blob).passed


@pytest.mark.parametrize("version", [2, 14])
def test_ir_version(version: int) -> None:
    finding = verdict(edited(models.identity(), ir_version=version)[1])
    assert (finding.check, finding.passed) == ("ir_version", False)


@pytest.mark.parametrize("opset", [6, 27])
def test_opset(opset: int) -> None:
    proto = onnx.ModelProto.FromString(models.identity())
    proto.opset_import[0].version = opset
    finding = verdict(proto.SerializeToString())
    assert (finding.check, finding.passed) == ("opset", False)


def outside(tensor: onnx.TensorProto, location: str) -> onnx.TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def added(tensor_into: str, location: str) -> bytes:
    """The MLP with a tensor whose data lies outside, in the named place of the proto."""
    proto = onnx.ModelProto.FromString(models.mlp((4, 4)))
    tensor = outside(nh.from_array(np.ones(4, np.float32), "hidden"), location)
    if tensor_into == "initializer":
        proto.graph.initializer.append(tensor)
    elif tensor_into == "sparse":
        sparse = proto.graph.sparse_initializer.add()
        sparse.values.CopyFrom(tensor)
        sparse.dims.append(4)
    elif tensor_into == "attribute":
        proto.graph.node.append(oh.make_node("Constant", [], ["c"], value=tensor))
    elif tensor_into == "subgraph":
        body = oh.make_graph([], "body", [], [], [tensor])
        proto.graph.node.append(oh.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body))
    elif tensor_into == "function":
        node = oh.make_node("Constant", [], ["c"], value=tensor)
        proto.functions.append(oh.make_function("own", "f", [], ["c"], [node], [oh.make_opsetid("", 17)]))
    else:
        proto.training_info.add().initialization.initializer.append(tensor)
    blob: bytes = proto.SerializeToString()
    return blob


@pytest.mark.parametrize("place", ["initializer", "sparse", "attribute", "subgraph", "function", "training"])
def test_external_data_is_found_wherever_it_hides(place: str) -> None:
    finding = verdict(added(place, "weights.bin"), outputs=(TensorSpec("y", "FP32", (4,)),))
    assert (finding.check, finding.passed) == ("external_data", False)


def test_a_hard_link_is_external_data_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(np.ones(4, np.float32).tobytes())
    os.link(tmp_path / "secret", tmp_path / "weights.bin")
    monkeypatch.chdir(tmp_path)
    finding = verdict(added("initializer", "weights.bin"), outputs=(TensorSpec("y", "FP32", (4,)),))
    assert (finding.check, finding.passed) == ("external_data", False)


def test_a_location_without_the_flag_is_refused() -> None:
    proto = onnx.ModelProto.FromString(added("initializer", "weights.bin"))
    proto.graph.initializer[-1].data_location = onnx.TensorProto.DEFAULT
    assert verdict(proto.SerializeToString()).check == "external_data"


def test_custom_operators_are_refused_and_functions_of_the_model_are_not() -> None:
    node = oh.make_node("Own", ["x"], ["y"], domain="own")
    blob = models.build([node], [models.value("x", "n", 4)], [models.value("y", "n", 4)])
    proto = onnx.ModelProto.FromString(blob)
    proto.opset_import.append(oh.make_opsetid("own", 1))
    finding = verdict(proto.SerializeToString())
    assert (finding.check, finding.passed) == ("operators", False)
    inner = oh.make_node("Identity", ["x"], ["y"])
    proto.functions.append(oh.make_function("own", "Own", ["x"], ["y"], [inner], [oh.make_opsetid("", 17)]))
    assert verdict(proto.SerializeToString()).passed


def folded(elements: int) -> bytes:
    """158 bytes that become ``4 * elements`` bytes while constants are folded."""
    return models.build(
        [
            oh.make_node("ConstantOfShape", ["s"], ["big"]),
            oh.make_node("ReduceSum", ["big"], ["total"], keepdims=0),
            oh.make_node("Add", ["x", "total"], ["y"]),
        ],
        [models.value("x", "n", 4)],
        [models.value("y", "n", 4)],
        [nh.from_array(np.array([elements], np.int64), "s")],
    )


def test_a_constant_folding_bomb_is_stopped_by_the_limit_and_by_nothing_else() -> None:
    bomb = folded(128 * MIB)  # 512 MiB, and as much again for the sum, from 158 bytes
    assert len(bomb) < 200
    finding = verdict(bomb, TIGHT)
    assert (finding.check, finding.passed) == ("first_load", False)
    assert verdict(bomb).passed
    assert verdict(folded(1000), TIGHT).passed


def test_a_model_that_never_ends_is_ended() -> None:
    blob = models.slow_rounds(10_000_000)
    finding = verdict(blob, replace(TIGHT, max_cpu_s=1))
    assert (finding.check, finding.passed) == ("first_load", False)
    assert "processor time" in finding.message
    finding = verdict(blob, replace(TIGHT, max_cpu_s=20, timeout_s=0.7))
    assert "took longer than 0.7 s" in finding.message


def test_a_fixed_batch_axis_is_refused() -> None:
    node = oh.make_node("Identity", ["x"], ["y"])
    finding = verdict(models.build([node], [models.value("x", 1, 4)], [models.value("y", 1, 4)]))
    assert not finding.passed


def test_an_output_that_does_not_follow_the_batch_is_refused() -> None:
    node = oh.make_node("Concat", ["x", "x"], ["y"], axis=0)
    finding = verdict(models.build([node], [models.value("x", "n", 4)], [models.value("y", "m", 4)]))
    assert (finding.check, finding.passed) == ("first_run", False)


def test_a_stated_shape_that_does_not_come_out_is_refused() -> None:
    node = oh.make_node("Concat", ["x", "x"], ["y"], axis=1)
    blob = models.build([node], [models.value("x", "n", "m")], [models.value("y", "n", "k")])
    assert verdict(blob, outputs=(TensorSpec("y", "FP32", (8,)),)).passed
    finding = verdict(blob, outputs=(TensorSpec("y", "FP32", (7,)),))
    assert (finding.check, finding.passed) == ("first_run", False)


def test_outputs_that_the_manifest_leaves_out_are_derived() -> None:
    blob = models.conv()
    photo = TensorSpec("image", "UINT8", (8, 8, 3))
    version = models.version_of(blob, (photo,), (), ("image_to_float",), ("softmax", "top_k:2"))
    checked = checked_model(blob, version)
    assert checked.findings[-1].passed
    assert checked.version == replace(
        version, outputs=(TensorSpec("classes", "INT64", (2,)), TensorSpec("scores", "FP32", (2,)))
    )
    refused = checked_model(blob, replace(version, postprocess=("softmax", "top_k:6")))
    assert refused.findings[-1] == Finding(
        "signature", False, "kernel `top_k`: k must be a whole number from 1 to 5, not 6"
    )


def test_a_batch_that_kernels_make_too_large_is_refused_before_anything_is_loaded() -> None:
    photo = TensorSpec("image", "UINT8", (-1, -1, 3))
    facts = {"inputs": (photo,), "preprocess": ("resize_bilinear:1000,1000", "image_to_float", "resize_nearest:8,8")}
    finding = verdict(models.conv(), outputs=(TensorSpec("logits", "FP32", (5,)),), max_batch_size=64, **facts)
    assert (finding.check, finding.passed) == ("preprocess", False)
    assert finding.message.startswith("a batch of 64 takes 768,000,000 bytes between the kernels, at most 536,870,912")
