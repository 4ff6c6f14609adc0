"""Stage learn-likeness in a run folder: a rehearsal that is interrupted, and goes on."""

import json

import pytest

from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from pipelines.stages import perform
from usersim.conversation import Conversation, Message
from usersim.engines.scripted import ScriptedEngine
from usersim.errors import EngineDead, InputError, WorldError
from usersim.files import write_conversations, write_text

INGEST, LEARN, SIMULATE = map(stage_named, ("ingest", "learn_likeness", "simulate"))


class Cluster:
    """The engines of a run: how much was drawn, and after how many draws the user's dies."""

    def __init__(self):
        self.drawn = self.dies_after = 0

    def open(self, spec):
        return ScriptedEngine(self._draw if spec.opens == "user" else self._answer, spec.model)

    def _draw(self, messages, sampling):
        if self.dies_after and self.drawn >= self.dies_after:
            raise EngineDead("killed")
        self.drawn += 1
        return f"Can you tell me more about thing {sampling.seed}?"

    def _answer(self, messages, sampling):
        return f"Thing {sampling.seed} is one of many."


@pytest.fixture
def engines(monkeypatch):
    found = Cluster()
    monkeypatch.setattr("usersim.simulate.open_engine", found.open)
    return found


@pytest.fixture
def user_model(tmp_path):
    write_text(tmp_path / "mine" / "config.json", json.dumps({"checkpoint": 1}))
    return tmp_path / "mine"


def recipe_of(user_model, **simulate):
    scripted = {"kind": "scripted", "model": "talkative"}
    simulate = {"conversations": 30, "max_rounds": 2, "candidates": 3, **simulate}
    return Recipe.checked(
        {
            "engines": {
                "user": scripted | {"opens": "user", "model": str(user_model)},
                "assistant": scripted,
            },
            "likeness": {"conversations": 40, "draws": 2, "people_turns": 80},
            "simulate": {"opener_threshold": 1.0, **simulate},
        },
        "test",
    )


def person(number):
    typed = [f"fix the {number}th bug in file {turn}, it crashes" for turn in range(2)]
    messages = [m for t in typed for m in (Message("user", t), Message("assistant", "done"))]
    return Conversation(id=f"p{number}", messages=tuple(messages))


@pytest.fixture
def run(tmp_path, user_model):
    run, recipe = RunFolder(tmp_path / "run"), recipe_of(user_model)
    with run.locked():
        run.adopt(recipe)
        run.begin(INGEST, recipe)
        for split in ("train", "dev", "test"):
            write_conversations(run.people / f"{split}.parquet", map(person, range(120)))
        run.finish(INGEST, recipe, 1.0, {})
    return run


def learn(run, recipe):
    with run.locked():
        run.adopt(recipe)
        perform(LEARN, recipe, run)
    return run.metrics()["likeness"]


def interrupted(run, recipe, engines):
    engines.dies_after = 90  # all openers are there by then
    with pytest.raises(WorldError, match="an engine died"):
        learn(run, recipe)
    engines.dies_after = 0
    assert run.rehearsal.exists()


def test_an_interrupted_rehearsal_goes_on_and_leaves_a_likeness_alone(run, engines, user_model):
    recipe = recipe_of(user_model)
    interrupted(run, recipe, engines)
    figures = learn(run, recipe)
    # Two rounds of two draws each, and what was lost of a second round.
    assert 40 * 2 * 2 <= engines.drawn <= 40 * 2 * 2 + 10
    assert figures["first"]["simulated"] == figures["later"]["simulated"] == 80
    assert figures["tokens"] > 0
    assert run.likeness.exists()
    assert not run.rehearsal.exists()
    assert run.is_done(LEARN, recipe)


def test_how_the_run_is_cut_into_files_is_nothing_to_a_rehearsal(run, engines, user_model):
    interrupted(run, recipe_of(user_model), engines)
    figures = learn(run, recipe_of(user_model, shard_size=7, conversations=50))
    assert figures["first"]["simulated"] == 80


def test_a_rehearsal_of_another_user_model_is_refused_and_made_anew_when_asked(
    run, engines, user_model
):
    recipe = recipe_of(user_model)
    interrupted(run, recipe, engines)
    write_text(user_model / "config.json", json.dumps({"checkpoint": 2}))
    with pytest.raises(InputError, match="--redo learn-likeness"):
        learn(run, recipe)
    with run.locked():
        run.adopt(recipe, redo=LEARN)
    assert not run.rehearsal.exists()
    before = engines.drawn
    learn(run, recipe)
    assert engines.drawn - before == 40 * 2 * 2


def test_conversations_of_two_likenesses_are_not_mixed(run, engines, user_model):
    recipe = recipe_of(user_model)
    learn(run, recipe)
    engines.dies_after = engines.drawn + 30
    with run.locked(), pytest.raises(WorldError):
        perform(SIMULATE, recipe, run)
    engines.dies_after = 0
    run.likeness.unlink()
    write_conversations(run.people / "train.parquet", map(person, range(100)))
    with run.locked():
        run.adopt(recipe)  # the likeness that is gone says nothing
        perform(LEARN, recipe, run)
        with pytest.raises(InputError, match=r"the run.s likeness: \S+ has other content"):
            perform(SIMULATE, recipe, run)
