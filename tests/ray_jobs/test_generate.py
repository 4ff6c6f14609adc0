"""The command: `python -m ray_jobs.generate`, on a cluster that it starts for itself."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ray_jobs.generate import _seen_by_all
from usersim.errors import InputError
from usersim.files import read_conversations

ROOT = Path(__file__).parents[2]
RECIPE = """
engines: {user: {kind: scripted, model: talkative}, assistant: {kind: scripted, model: talkative}}
simulate: {conversations: 48, shard_size: 8, concurrency: 8}
"""


def command(run, *arguments, fault=""):
    recipe = run.parent / "recipe.yaml"
    recipe.write_text(RECIPE)
    given = ["--recipe", str(recipe), "--run", str(run), *arguments]
    environment = os.environ | {"REALCHAT_FAULT": fault, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        [sys.executable, "-m", "ray_jobs.generate", *given],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def published(run):
    return [c for p in sorted((run / "conversations").glob("*")) for c in read_conversations(p)]


@pytest.mark.slow
def test_a_killed_driver_is_gone_on_from(tmp_path):
    run, alone = tmp_path / "run", tmp_path / "alone"
    two = ("--actors", "2", "--cpus-per-actor", "0.5")
    killed = command(run, *two, fault="ray.shard_done:2")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 2 <= len(list((run / "conversations").glob("part-*.parquet"))) < 6

    resumed = command(run, *two)
    assert resumed.returncode == 0, resumed.stderr
    metrics = json.loads((run / "metrics.json").read_text())["simulate"]
    assert (metrics["conversations"], metrics["sessions"]) == (48, 2)
    manifest = json.loads((run / "manifest.json").read_text())
    assert len(manifest["files"]) == 6

    again = command(run, *two)
    assert (again.returncode, "already done" in again.stderr) == (0, True)

    one_machine = [sys.executable, "-m", "pipelines.cli", "simulate", "--recipe"]
    subprocess.run([*one_machine, str(tmp_path / "recipe.yaml"), "--run", str(alone)], check=True)
    assert published(run) == published(alone)


def test_a_run_folder_inside_a_jobs_package_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    package.mkdir(parents=True)
    monkeypatch.chdir(package)
    with pytest.raises(InputError, match="every node sees"):
        _seen_by_all(Path("runs/demo"))
    assert _seen_by_all(tmp_path) == tmp_path
