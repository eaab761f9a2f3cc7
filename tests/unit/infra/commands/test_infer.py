"""From a file or JSON to named arrays of the model's datatypes."""

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from infra.commands.infer import _from_file, _plain, app, named
from schemas.model import TensorSpec

IMAGE = (TensorSpec("image", "UINT8", (4,)),)


def test_json_takes_the_datatype_and_the_name_of_the_signature():
    (array,) = named({"": [[1, 2, 3, 4]]}, IMAGE).values()
    assert (array.dtype, array.shape) == (np.dtype("u1"), (1, 4))
    assert list(named({"": [[1, 2, 3, 4]]}, IMAGE)) == ["image"]


def test_one_item_gets_its_batch_axis():
    assert named({"image": [1, 2, 3, 4]}, IMAGE)["image"].shape == (1, 4)


def test_an_array_of_a_file_is_sent_as_it_is(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 4), np.float64))
    assert named(_from_file(tmp_path / "x.npy"), IMAGE)["image"].dtype == np.float64
    np.savez(tmp_path / "x.npz", image=np.zeros((2, 4), np.uint8), other=np.zeros(3))
    assert list(named(_from_file(tmp_path / "x.npz"), IMAGE)) == ["image", "other"]


def test_values_that_do_not_fit_are_a_usage_error():
    with pytest.raises(typer.BadParameter, match="image"):
        named({"": [[1, 2, 300, 4]]}, IMAGE)
    with pytest.raises(typer.BadParameter):
        named({"": [[1], [1, 2]]}, IMAGE)


def test_types_that_no_tensor_has_are_a_usage_error():
    with pytest.raises(typer.BadParameter, match="image"):
        named({"image": np.zeros((1, 4), np.complex128)}, IMAGE)
    with pytest.raises(typer.BadParameter, match="a text must be str or bytes, not NoneType"):
        named({"": None}, ())


def test_texts_and_half_floats_of_json():
    word = (TensorSpec("word", "BYTES", (2,)), TensorSpec("half", "BF16", ()))
    given = named({"word": ["a", "é"], "half": [1.5]}, word)
    assert (given["word"].tolist(), given["half"].view("<u2").tolist()) == ([["a", "é"]], [0x3FC0])
    with pytest.raises(typer.BadParameter, match="a text must be str or bytes, not int"):
        named({"word": ["a", 1]}, word)


def test_texts_are_printed_as_text():
    assert _plain(np.array([[b"a", b"\xff"]], object)) == [["a", "\ufffd"]]
    assert _plain(np.array(b"x", object)) == "x"
    assert _plain(np.zeros((1, 2), np.int64)) == [[0, 0]]


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 no archive", b"\x93NUMPY\x01"])
def test_files_that_hold_no_arrays_are_one_sentence(tmp_path, capsys, content):
    path = tmp_path / "broken.npy"
    path.write_bytes(content)
    with pytest.raises(typer.Exit) as caught:
        _from_file(path)
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err.startswith(f"{path} cannot be read as .npy or .npz: ")


def test_pickled_objects_are_not_read(tmp_path):
    np.savez(tmp_path / "x.npz", image=np.array([{"a": 1}], dtype=object))
    with pytest.raises(typer.Exit):
        _from_file(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "arguments", [[], ["--json", "[1]", "--input", "x.npy"], ["--json", "{"], ["--input", "no.npy"]]
)
def test_usage_errors(arguments):
    done = CliRunner().invoke(app, ["digits", *arguments], env={"ISOS_BROKERS": "127.0.0.1:1"})
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_no_broker_is_6():
    done = CliRunner().invoke(app, ["digits", "--json", "[1]"], env={"ISOS_BROKERS": "127.0.0.1:1"})
    assert (done.exit_code, done.stdout) == (6, "")
    assert "isos up" in done.stderr
