"""What was read stays, and counts for the work it is of."""

from benchmarks.meter import Reading
from benchmarks.readings import Readings


def reading(rate):
    return Reading(100, 100 / rate, 1.0, 10, 0.9, 0.5, 7)


def test_a_later_piece_counts_what_earlier_ones_read_of_the_same_work(tmp_path):
    file = tmp_path / "readings.jsonl"
    Readings({"mean": 94.0}, file).add("ours", reading(80))
    Readings({"mean": 24.0}, file).add("ours", reading(50))
    later = Readings({"mean": 94.0}, file)
    later.add("ours", reading(90))
    later.add("oracle", reading(100))
    assert later.of == {"ours": [reading(80), reading(90)], "oracle": [reading(100)]}
    assert Readings({"mean": 94.0}, file).of == later.of
    assert Readings({"mean": 94.0}).of == {}
