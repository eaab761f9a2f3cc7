"""Counting answers, the document with exactly the promised keys, and the verdict."""

from types import SimpleNamespace

import numpy as np
import pytest

from infra import demo
from infra.demo import Asker, Outcome, document, verdict
from infra.settings import load_settings
from streams.client.client import NoResultError
from streams.ledger import SOURCE, fold
from tests.unit.infra.test_demo_report import timed

KEYS = (
    *("requests", "ok", "accuracy", "rate_rps", "p50_ms", "p99_ms", "missing", "duplicated"),
    *("first_result_s", "setup_s", "download_s"),
)


def ledger(answers, *, reaped=False):
    headers = [[("isos-source", SOURCE.pack(bytes(16), 0, offset)), ("isos-status", b"O")] for offset in answers]
    if reaped:
        headers[0].append(("isos-reaped", b"1"))
    return fold(bytes(16), [(0, 0, 0), (0, 1, 0)], headers, now_ms=100, max_age_ms=1)


def outcome(**changed):
    return Outcome(**{"requests": 2, "ok": 2, "correct": 1, "images": 1, "timed": [timed(), timed()], **changed})


def test_document_has_exactly_the_promised_keys():
    made = document(outcome(), ledger((0, 1)), {"setup_s": 3.0, "download_s": 2.0, "at_us": 1})
    assert tuple(made) == KEYS
    assert (made["accuracy"], made["p50_ms"], made["missing"], made["duplicated"]) == (1.0, 21.0, 0, 0)
    assert (made["setup_s"], made["download_s"]) == (3.0, 2.0)
    assert verdict(made, ledger((0, 1))) == ()


@pytest.mark.parametrize(
    ("seen", "found", "word"),
    [
        (outcome(ok=1), ledger((0, 1)), "1 of 2 requests did not end OK"),
        (outcome(), ledger((0,)), "1 missing"),
        (outcome(), ledger((0, 1, 1)), "1 duplicated"),
        (outcome(), ledger((0, 1), reaped=True), "reaper"),
        (outcome(correct=0), ledger((0, 1)), "accuracy"),
        (outcome(requests=0, ok=0, images=0, timed=[]), ledger((0, 1)), "did not end OK"),
    ],
)
def test_what_is_wrong_is_said(seen, found, word):
    assert any(word in sentence for sentence in verdict(document(seen, found, {}), found))


class Classifier:
    """Answers with the image's first pixel as the class; every image of 9 has no result."""

    async def infer(self, model, inputs, *, timeout_ms):
        (pixel,) = {int(value) for value in inputs["image"][0]}
        if pixel == 9:
            raise NoResultError("r", 1.0)
        return SimpleNamespace(outputs={"classes": np.array([[pixel, 0, 1]])}, read_us=0)


async def test_right_wrong_and_unanswered_are_counted():
    seen, ticks = Outcome(), []
    images = np.array([[1] * 4, [2] * 4, [9] * 4], np.uint8)
    await Asker(Classifier(), seen).all_once(images, np.array([1, 3, 9]), lambda: ticks.append(1))
    assert (seen.requests, seen.ok, seen.correct, seen.images, len(ticks)) == (3, 2, 1, 3, 3)
    assert seen.failures == ["request r has no result after 1 s"]


async def test_the_clock_sends_them_all(monkeypatch):
    monkeypatch.setattr(demo, "RATE", 2_000.0)
    monkeypatch.setattr(demo, "SECONDS", 0.05)
    seen = Outcome()
    await Asker(Classifier(), seen).by_the_clock(np.array([[1] * 4], np.uint8), lambda: None)
    assert (seen.requests, seen.ok, len(seen.timed)) == (100, 100, 100)
    scheduled = [at for at, _ in seen.timed]
    assert max(scheduled) - min(scheduled) == pytest.approx(99 * 500, abs=1)


def test_setup_times_are_optional(tmp_path):
    settings = load_settings(data_dir=tmp_path)
    assert demo._setup_times(settings) == {}
    (tmp_path / "setup.json").write_text('{"setup_s": 5}')
    assert demo._setup_times(settings) == {"setup_s": 5}
