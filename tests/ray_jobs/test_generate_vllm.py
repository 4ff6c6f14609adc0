"""The whole of it at once: a head, a submitted job, vLLM in the workers, one of them killed."""

import os
import re
import signal
import sys
import threading

import pytest
from ray_head import head, submitted  # noqa: F401 - a fixture
from witness import journaled

from pipelines.verify import report, verify
from usersim.engines.surroundings import children_of

RECIPE = """
engines:
  user: {kind: scripted, model: talkative, opens: user}
  assistant: {model: smollm2-135m-instruct, context_tokens: 512, max_num_seqs: 32, kv_cache_gb: 0.5}
simulate:
  conversations: 64
  shard_size: 16
  concurrency: 32
  max_rounds: 3
  assistant_sampling: {max_tokens: 16, temperature: 0.7}
"""
TURNS_BEFORE_THE_KILL = 48


class Killer:
    """Kills the first worker as soon as it has some turns; keeps the numbers of its engine."""

    def __init__(self, run):
        self._run = run
        self.engine = []
        self.kept = set()
        self.threads = []

    def heard(self, line):
        """A line of the job's output."""
        ready = re.search(r"worker-0\.1 is ready \(process (\d+)\)", line)
        if ready:
            self.threads.append(threading.Thread(target=self._kill, args=(int(ready[1]),)))
            self.threads[-1].start()

    def _kill(self, worker):
        tick = threading.Event()
        for _ in range(3000):
            self.kept = journaled(self._run)
            if len(self.kept) >= TURNS_BEFORE_THE_KILL:
                break
            tick.wait(0.02)
        self.engine = children_of(worker)
        os.kill(worker, signal.SIGKILL)


@pytest.mark.slow
def test_a_job_with_vllm_loses_a_worker_and_nothing_else(tmp_path, head):  # noqa: F811
    run, recipe = tmp_path / "run", tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    killer = Killer(run)
    job = [sys.executable, "-m", "ray_jobs.generate", "--recipe", str(recipe)]
    job += ["--run", str(run), "--actors", "1"]
    output = submitted(head | {"HF_HUB_OFFLINE": "1"}, job, killer.heard)
    for thread in killer.threads:
        thread.join()

    assert "worker-0.1 is lost" in output
    assert "64/64 conversations" in output
    assert killer.kept <= journaled(run)  # whatever was finished then is there now, once
    assert TURNS_BEFORE_THE_KILL <= len(killer.kept) < len(journaled(run))
    checks = verify(run)
    assert not any(check.problems for check in checks), report(checks)
    assert killer.engine
    assert not [pid for pid in killer.engine if alive(pid)]  # no engine outlives its worker


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - it may vanish at any time
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
