"""Records and bytes a second out of two looks."""

from infra.bench.traffic import Traffic, segment_bytes, traffic_rows


def test_rates_between_two_looks():
    before = Traffic({"a": 10, "b": 0}, {"a": 1_000, "b": None})
    after = Traffic({"a": 110, "b": 50}, {"a": 21_000, "b": None})
    assert traffic_rows(before, after, 10.0) == [
        {"topic": "a", "records_s": 10.0, "kb_s": 2.0, "bytes_per_record": 200},
        {"topic": "b", "records_s": 5.0, "kb_s": None, "bytes_per_record": None},
    ]


def test_segments_of_all_partitions_and_of_no_other_topic(tmp_path):
    for name, size in (("t.v1-0", 5), ("t.v1-1", 7), ("t.v2-0", 100)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.log").write_bytes(bytes(size))
        (tmp_path / name / "0.index").write_bytes(bytes(50))
    assert segment_bytes(tmp_path, "t.v1") == 12
    assert segment_bytes(tmp_path, "none") is None
