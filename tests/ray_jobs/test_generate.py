"""The command: `python -m ray_jobs.generate`, on a cluster that it starts for itself."""

import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from ray_head import ROOT, head, submitted  # noqa: F401 - a fixture
from scripted_run import held

from pipelines.cli import Options
from pipelines.failures import DEBUG
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stages import simulation
from pipelines.verify import report, verify
from ray_jobs import generate
from ray_jobs.cluster import connected, look_for, run_of, seen_by_all, sign_in
from ray_jobs.fleet import Placement
from ray_jobs.generate import placed
from ray_jobs.store import Store
from usersim.errors import InputError, WorldError
from usersim.files import read_conversations
from usersim.simulate import simulate

RECIPE = """
engines: {user: {kind: scripted, model: talkative}, assistant: {kind: scripted, model: talkative}}
simulate: {conversations: 48, shard_size: 8, concurrency: 8}
"""


@pytest.mark.parametrize(
    ("there", "each", "workers"), [(8, 1.0, 8), (8, 2.0, 4), (8, 0.5, 16), (0, 2.0, 1), (8, 0.0, 1)]
)
def test_there_is_a_worker_for_the_gpus_of_each(monkeypatch, there, each, workers):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": float(there)} if there else {})
    assert placed(None, 1.0, each) == Placement(workers, 1.0, each, grows=True)
    assert placed(3, 1.0, each) == Placement(3, 1.0, each, grows=False)


@pytest.mark.parametrize(("gpus", "spread"), [(1.5, 1), (0.5, 2), (1.0, 2)])
def test_gpus_that_no_worker_can_have_are_refused(tmp_path, monkeypatch, capsys, gpus, spread):
    monkeypatch.setattr(generate, "connected", lambda: pytest.fail("asked for a cluster"))
    recipe = ROOT / "recipes" / "realchat.yaml"
    two = [f"engines.assistant.tensor_parallel={spread}"]
    with pytest.raises(typer.Exit):
        generate.generate(overrides=two, recipe=recipe, run=tmp_path / "r", gpus_per_actor=gpus)
    assert f"--gpus-per-actor {gpus:g}: " in capsys.readouterr().err


def test_a_cluster_that_cannot_be_joined_is_told(monkeypatch):
    def init(**options):
        raise AssertionError("Module: http does not have ClientBuilder.")

    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(WorldError, match=r"RAY_ADDRESS is http://head:8265.* submit"), connected():
        pass


@pytest.mark.parametrize("job", ["generate", "curate", "train_user", "train_assistant"])
def test_a_bug_can_be_looked_into(job, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(DEBUG, "")
    monkeypatch.setattr("pipelines.recipe.Recipe.load", lambda *_: 1 / 0)
    verb = getattr(import_module(f"ray_jobs.{job}"), job)
    with pytest.raises(typer.Exit):
        verb(run=tmp_path, debug=True)
    assert "Traceback" in capsys.readouterr().err


def test_what_a_kill_left_out_after_the_last_stage_is_written(tmp_path):
    run = held(tmp_path / "run")
    for path in (run.metrics_file, run.manifest_file):
        path.unlink()
    recipe, store = Recipe.load(run.recipe_file), Store(f"file://{tmp_path}/store")
    generate.carry_out(recipe, run, lambda: pytest.fail("nothing is left to do"), store)
    assert not [check.problems for check in verify(run.root) if check.problems]
    assert "manifest.json" in store.sizes()


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
    checks = verify(run)
    assert not any(check.problems for check in checks), report(checks)

    again = command(run, *two)
    assert (again.returncode, "already done" in again.stderr) == (0, True)

    recipe = Recipe.load(tmp_path / "recipe.yaml")
    simulate(*simulation(recipe, RunFolder(alone)))  # one machine
    assert published(run) == published(alone)


@pytest.mark.slow
def test_a_submitted_job(tmp_path, head):  # noqa: F811
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    job = [sys.executable, "-m", "ray_jobs.generate", "--recipe", str(tmp_path / "recipe.yaml")]
    job += ["--run", str(tmp_path / "run"), "--actors", "2", "--cpus-per-actor", "0.5"]
    output = submitted(head, job)
    assert "48/48 conversations" in output
    assert len({c.id for c in published(tmp_path / "run")}) == 48


def test_a_run_folder_inside_a_jobs_package_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    package.mkdir(parents=True)
    monkeypatch.chdir(package)
    with pytest.raises(InputError, match="every node sees"):
        seen_by_all(Path("runs/demo"))
    assert seen_by_all(tmp_path) == tmp_path


def test_a_run_folder_keeps_the_path_that_other_nodes_know(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "shared").symlink_to("disk")  # on the head; elsewhere it may be a mount
    assert seen_by_all(tmp_path / "shared" / "run") == tmp_path / "shared" / "run"


def test_a_job_that_names_no_run_has_it_where_it_stays(tmp_path, monkeypatch):
    package = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    package.mkdir(parents=True)
    monkeypatch.chdir(package)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    options = Options(ROOT / "recipes" / "realchat.yaml", None)
    assert run_of(options, None)[1].root == tmp_path / "home" / "realchat" / "runs" / "realchat"
    monkeypatch.setenv("REALCHAT_RUNS", str(tmp_path / "shared"))
    assert run_of(options, None)[1].root == tmp_path / "shared" / "realchat"


def test_a_node_that_does_not_see_the_run_folder_says_so(tmp_path):
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "driver-of-old").touch()  # its driver was killed
    with sign_in(tmp_path / "journal") as sign:
        look_for(tmp_path / "journal" / sign)
        assert [p.name for p in (tmp_path / "journal").iterdir()] == [sign]
        with pytest.raises(WorldError, match=r"does not see the driver's .*elsewhere"):
            look_for(tmp_path / "elsewhere" / "journal" / sign)
    assert not list((tmp_path / "journal").iterdir())
