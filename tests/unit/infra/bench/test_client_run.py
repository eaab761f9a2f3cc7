"""The figures of the client's benchmark; the run itself is `make bench SCENARIO=client`."""

from infra.bench import client_run, run
from infra.bench.client_run import document, measured
from infra.settings import load_settings
from tests.support.loopback_client import LoopbackClient


async def test_every_way_makes_each_request_once():
    for way in (client_run._stream, client_run._infer):
        async with LoopbackClient(max_in_flight=7) as client:
            figures = await measured(way, client, 40)
            assert len(client.sent) == 40
        assert (figures["sent"], figures["ok"], figures["max_in_flight"]) == (40, 40, 7)
        assert figures["rate_rps"] > 0
        assert figures["cpu_us"] > 0


def test_the_document_sums_up_and_leads_with_the_stream():
    ways = {
        "stream": {"sent": 10, "ok": 10, "rate_rps": 5.0, "cpu_us": 1.0},
        "infer": {"sent": 10, "ok": 9, "rate_rps": 4.0, "cpu_us": 2.0},
    }
    found = document(ways)
    assert (found["scenario"], found["sent"], found["ok"], found["rate_rps"]) == ("client", 20, 19, 5.0)


def test_it_is_a_scenario(monkeypatch, tmp_path):
    monkeypatch.delenv("ISOS_DATA_DIR", raising=False)
    monkeypatch.setattr(client_run, "run_client", lambda settings: len(settings.data_dir.parts))
    assert run.run_named("client", load_settings(data_dir=tmp_path)) == len(tmp_path.parts) + 1
