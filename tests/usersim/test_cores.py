"""Free cores: read off the kernel's counters, or as the person says."""

import pytest

from usersim import cores


@pytest.fixture
def counters(monkeypatch, tmp_path):
    """Lets a test say what /proc/stat reads, one reading after the other."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: set(range(4)))
    readings = []
    stat = tmp_path / "stat"
    monkeypatch.setattr(cores, "STAT", stat)

    def next_reading(seconds=0.0):
        if readings:
            stat.write_text(readings.pop(0))

    monkeypatch.setattr(cores.time, "sleep", next_reading)

    def say(*values):
        readings.extend(values)
        next_reading()

    return say


@pytest.mark.parametrize(
    ("busy", "idle", "free"), [(0, 400, 4), (200, 200, 2), (400, 0, 1), (90, 310, 3)]
)
def test_cores_that_others_use_are_not_free(counters, busy, idle, free):
    counters("cpu 100 0 0 1000 0 0 0 0 0 0\n", f"cpu {100 + busy} 0 0 {1000 + idle} 0 0 0 0 0 0\n")
    assert cores.free_cores() == free


def test_where_the_load_is_not_told_all_cores_are_free(counters):
    assert cores.free_cores() == 4


def test_processes_that_seldom_meet_may_have_busy_cores_too(counters):
    counters("cpu 100 0 0 1000 0 0 0 0 0 0\n", "cpu 500 0 0 1000 0 0 0 0 0 0\n")
    assert cores.own_cores() == 4


def test_the_person_decides(counters, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cores.free_cores() == cores.own_cores() == 3


def test_tile_instructions_are_read_off_the_machine(monkeypatch, tmp_path):
    for flags, has in (("fpu amx_bf16 amx_tile", True), ("fpu avx512f avx512_bf16", False)):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
        monkeypatch.setattr("usersim.cores.CPUINFO", tmp_path / "cpuinfo")
        assert cores.has_tiles() is has
    monkeypatch.setattr("usersim.cores.CPUINFO", tmp_path / "absent")
    assert not cores.has_tiles()
