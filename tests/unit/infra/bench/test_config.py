"""Configuration there and back."""

from infra.bench.config import Config
from infra.bench.template import Load


def test_configuration_round_trip(tmp_path):
    loads = (Load("model-a", item_shape=(2, 3)), Load("model-b", "image", "UINT8", (64,), 2.5))
    config = Config(
        "127.0.0.1:1",
        7,
        loads,
        100.0,
        "out",
        "abcdefgh",
        seconds=3.0,
        interactive=True,
        steps=((1.0, 2.0), (30.0, 4.0)),
        confirm=False,
    )
    config.write(tmp_path / "config.json")
    assert Config.read(tmp_path / "config.json") == config


def test_topics_are_ours_by_default():
    config = Config("b", 1, (), 1.0, "out", "r")
    assert (config.requests_topic, config.results_topic) == ("isos.inference.requests.v1", "isos.inference.results.v1")
