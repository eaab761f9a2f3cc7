"""How long a call waits, and where it goes."""

import numpy as np

from streams.client.request import DEFAULT_WAIT_S, GRACE_S, Request, default_bootstrap, wait_for


def test_the_wait_follows_the_budget_unless_it_is_given():
    assert wait_for(0, None) == DEFAULT_WAIT_S
    assert wait_for(2_000, None) == 2 + GRACE_S
    assert wait_for(2_000, 0.5) == 0.5
    assert wait_for(2_000, 0.0) == 0.0


def test_a_request_needs_a_model_and_inputs_only():
    request = Request("digits", {"image": np.zeros((1, 4))})
    assert (request.request_id, request.timeout_ms, request.priority, request.version) == (None, 0, 5, None)


def test_bootstrap_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("ISOS_BROKERS", raising=False)
    monkeypatch.setenv("ISOS_BROKER_PORT", "1234")
    assert default_bootstrap() == "127.0.0.1:1234"
    monkeypatch.setenv("ISOS_BROKERS", "broker:9")
    assert default_bootstrap() == "broker:9"
