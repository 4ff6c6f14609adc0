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
from ray_jobs import training
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
        prepare(recipe, run, stage_named("simulate"))  # what `generate` does first: ingest, train
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
        prepare(recipe, run, stage_named("train_assistant"))


def test_a_stage_that_asks_an_engine_has_the_gpus_that_its_model_needs():
    sizes = {"user": {"tensor_parallel": 2}, "assistant": {"tensor_parallel": 4}}
    recipe = Recipe.checked({"engines": sizes}, "recipe")
    assert gpus_of(stage_named("learn_likeness"), recipe) == 4.0
    assert gpus_of(stage_named("ingest"), recipe) == 0.0


def test_a_process_for_each_gpu_as_far_as_rows_go_round():
    settings = FitSettings(batch_rows=8, micro_batch_rows=2)
    assert Processes().how_many(settings, {"GPU": 16.0, "CPU": 64.0}) == 4
    assert Processes().how_many(settings, {"GPU": 3.0}) == 3
    assert Processes().how_many(settings.model_copy(update={"processes": 6}), {"GPU": 3.0}) == 6
    assert Processes(cpus=2.0, cpu_only=True).how_many(settings, {"CPU": 4.0}) == 2
    with pytest.raises(InputError, match="--cpu-only"):
        Processes().how_many(settings, {"CPU": 64.0})
