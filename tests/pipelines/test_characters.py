"""A character in a run: its two stages follow each other, and somebody asks the questions."""

import pytest

from assistant.characters import work
from pipelines.characters import interviewer, people_turns
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from pipelines.stages import perform
from usersim.conversation import Conversation, Message
from usersim.files import write_conversations


def test_the_runs_own_user_asks_and_without_one_its_base_does(tmp_path):
    recipe, run = Recipe.checked({}, "test"), RunFolder(tmp_path)
    without = interviewer(recipe, run)
    assert (without.model, without.opens) == (recipe.models.user, "user")
    assert "prompted" in without.display_name
    run.user_model.mkdir(parents=True)
    own = interviewer(recipe, run)
    assert own.model == str(run.user_model)
    assert own.display_name == f"usergpt-{recipe.models.user}"
    named = {"engines": {"user": {"kind": "endpoint", "model": "x", "url": "http://127.0.0.1:1"}}}
    assert interviewer(Recipe.checked(named, "test"), run).kind == "endpoint"


@pytest.mark.parametrize("ablation", [False, True])
def test_the_interview_begins_when_the_character_is_trained(tmp_path, monkeypatch, ablation):
    """Whether or not a second model was trained without protection."""
    seen = {}

    def train_character(settings, base, profile, experiences, out, seed):
        out.mkdir(parents=True)
        return {}

    def interview_stage(table, life, base, place, user):
        seen.update(trained=place.model.is_dir(), unguarded=place.unguarded.is_dir())
        place.asked.mkdir(parents=True)
        return {"life": life, "consistency": {}, "interviews": {}}

    monkeypatch.setattr(work, "train_character", train_character)
    monkeypatch.setattr("pipelines.characters.interview_stage", interview_stage)
    stages = ["train_character", "interview"]
    character = {"ablation": ablation, "experiences": {"scenes": 20}}
    recipe = Recipe.checked({"stages": stages, "character": character}, "test")
    run = RunFolder(tmp_path / "run")
    with run.locked():
        run.adopt(recipe)
        for name in stages:
            perform(stage_named(name), recipe, run)
        assert all(run.is_done(stage_named(name), recipe) for name in stages)
    assert seen == {"trained": True, "unguarded": ablation}
    assert (run.root / "character.html").is_file()


def test_the_runs_people_are_there_to_compare_with(tmp_path):
    run = RunFolder(tmp_path)
    assert people_turns(run) is None
    texts = ("hi", "Hello.", "and how do you whistle?", "So.")
    roles = ("user", "assistant") * 2
    talk = Conversation(id="a", messages=tuple(map(Message, roles, texts)))
    write_conversations(run.people / "test.parquet", [talk])
    found = people_turns(run)
    assert (found["turns"], found["words_median"]) == (1, 5)


def test_an_engine_that_was_to_be_shared_is_opened_alone(tmp_path):
    table = {"engines": {"placement": "one_engine"}}
    recipe, run = Recipe.checked(table, "test"), RunFolder(tmp_path)
    assert interviewer(recipe, run).adapter == ""
    run.user_model.mkdir(parents=True)
    spec = interviewer(recipe, run)
    assert (spec.shared, spec.adapter) == (False, str(run.user_model / "adapter"))
