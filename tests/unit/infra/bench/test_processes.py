"""CPU and memory from a /proc made of files, and of this very process."""

import os

from infra.bench.processes import Sample, child_id, commit, cpu_percent, machine, sample, used_s

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def test_figures_of_a_process_whose_name_has_spaces_and_brackets(tmp_path):
    folder = tmp_path / "42"
    folder.mkdir()
    fields = ["S", *(str(n) for n in range(1, 11)), str(3 * TICKS), str(2 * TICKS), "0"]
    (folder / "stat").write_text(f"42 (a) b (c) {' '.join(fields)}\n")
    (folder / "statm").write_text("900 7 1 1 0 1 0\n")
    (tmp_path / "stat").write_text(f"cpu {' '.join(str(n * TICKS) for n in (1, 2, 3, 1000, 5000, 4, 5, 6, 7, 8))}\n")
    look = sample({"edge": 42, "gone": 43}, tmp_path)
    assert look.machine_s == 21.0, "neither idle nor waiting for a disk nor twice what guests used"
    assert (look.cpu_s, look.rss_bytes, look.system_s) == ({"edge": 5.0}, {"edge": 7 * PAGE}, {"edge": 2.0})


def test_percent_of_one_core_of_all_that_lived_in_between():
    looks = [
        Sample(10.0, {"edge": 1.0, "old": 5.0}, {}),
        Sample(12.0, {"edge": 2.0, "old": 5.5, "new": 0.25, "twice": 1.0}, {}),
        Sample(14.0, {"edge": 3.0, "new": 1.0, "twice": 0.5}, {}),
    ]
    assert used_s(looks) == {"edge": 2.0, "old": 0.5, "new": 1.0, "twice": 1.5}, "one of them was started again"
    assert cpu_percent(looks) == {"edge": 50.0, "old": 12.5, "new": 25.0, "twice": 37.5}
    assert cpu_percent(looks[:1]) == {}
    assert cpu_percent([]) == {}


def test_this_process_and_this_machine():
    look = sample({"me": os.getpid()})
    assert look.cpu_s["me"] > 0
    assert look.rss_bytes["me"] > 1_000_000
    found = machine()
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0.1


def test_no_repository_no_commit(tmp_path):
    assert commit(tmp_path) == ""


def test_a_child_is_found_by_an_argument(tmp_path):
    for number, parent, command in (
        (5, 1, b"python\0-m\0infra.x\0"),
        (6, 9, b"python\0infra.x\0"),
        (7, 9, b"vi infra.x\0"),
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "stat").write_text(f"{number} (p) S {parent} 0 0\n")
        (folder / "cmdline").write_bytes(command)
    (tmp_path / "self").mkdir()
    assert child_id("infra.x", 9, tmp_path) == 6
    assert child_id("infra.x", 8, tmp_path) is None
