"""The orchestration benchmark counts what it says it counts, and memory does not follow size."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.orchestration import held, measure, shown

ROOT = Path(__file__).parents[2]


def test_one_size_holds_every_turn_once():
    command = [sys.executable, "-m", "benchmarks.orchestration", "--one", "40", "--rounds", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["turns"] == 40 * 2 * 2 + result["opener_retries"]
    assert result["turns_per_cpu_s"] > 0


def test_some_are_rejected_where_that_is_asked_for():
    result = held(300, rounds=1, rejected=0.2)
    assert 30 < result["rejected"] < 90
    assert result["turns"] == 2 * 300 - result["rejected"]


def test_the_line_names_machine_and_bar(monkeypatch):
    def held(conversations, rounds, rejected):
        rate = {100: 8000.0, 1000: 6000.0}[conversations]
        return {"conversations": conversations, "turns": 8, "turns_per_cpu_s": rate,
                "turns_per_s": 1.0, "peak_mib_grown": conversations / 100}  # fmt: skip

    monkeypatch.setattr("benchmarks.orchestration._in_own_process", held)
    result = measure([100, 1000], repeat=3)
    assert (result["slowest_turns_per_cpu_s"], result["flatness"]) == (6000.0, 0.75)
    assert result["mib_per_1000_conversations"] == 10.0
    assert result["holds"]
    assert result["machine"]["cores"] >= 1
    assert "1,000" in shown(result)
