"""Records become inputs with the id of the effect that wrote them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streams.control.control_input import effect_source, input_of_event, input_of_record
from streams.control.journal import Input
from streams.partition_log import LogRecord


def test_inputs_of_events_and_records() -> None:
    headers = [("traceparent", b"x"), ("isos-effect", b"planner/4/0")]
    message: Any = SimpleNamespace(
        topic="isos.control.plans.v1", partition=0, offset=9, key=None, value=b"v", headers=headers
    )
    assert input_of_event(message) == Input("control.plans", 0, 9, b"", b"v", "planner/4/0")
    record = LogRecord(9, b"k", None, (("isos-effect", b"planner/4/0"),))
    assert input_of_record("memory.events", record) == Input("memory.events", 0, 9, b"k", None, "planner/4/0")


@pytest.mark.parametrize("headers", [None, [], {}, [("other", b"x")]])
def test_no_effect_id(headers: Any) -> None:
    assert effect_source(headers) == ""


def test_headers_may_be_a_mapping() -> None:
    assert effect_source({"isos-effect": b"a/1/0"}) == "a/1/0"
