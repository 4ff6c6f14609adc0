import json

import pytest

from pipelines import stages
from pipelines.recipe import DEFAULT, Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import STAGES, downstream, stage_named
from pipelines.stages import WORK, calibrated, perform
from usersim.engines import EngineSpec
from usersim.errors import InputError
from usersim.files import write_json


@pytest.fixture
def recipe():
    return Recipe.load(DEFAULT)


@pytest.fixture
def run(tmp_path, recipe):
    run = RunFolder(tmp_path / "run")
    with run.locked():
        run.adopt(recipe)
    return run


@pytest.fixture
def pretended(monkeypatch):
    """Stages that make their outputs and nothing else; the list of what was done."""
    done = []

    def pretend(stage):
        def work(recipe, run):
            done.append(stage.name)
            for output in stage.outputs:
                (run.root / output).mkdir(parents=True, exist_ok=True)
            return {"made": stage.name}

        return work

    for stage in STAGES:
        monkeypatch.setitem(WORK, stage.name, pretend(stage))
    return done


def test_every_stage_has_its_work_and_its_own_place_in_the_metrics():
    assert list(WORK) == [stage.name for stage in STAGES]
    assert len({stage.figures for stage in STAGES}) == len(STAGES)
    outputs = [output for stage in STAGES for output in stage.outputs]
    assert len(set(outputs)) == len(outputs)


def test_stages_come_after_what_they_need():
    seen = set()
    for stage in STAGES:
        assert set(stage.after) <= seen
        seen.add(stage.name)
    characters = {"train_character", "interview"}  # made of a story, not of people's talk
    assert {s.name for s in downstream(stage_named("ingest"))} == seen - {"ingest"} - characters


def test_stages_are_found_by_name_and_by_verb():
    assert stage_named("train-user") is stage_named("train_user")
    with pytest.raises(InputError, match="no stage 'fly'"):
        stage_named("fly")


def test_a_run_leaves_every_figure_and_timing(run, recipe, pretended):
    for stage in STAGES:
        perform(stage, recipe, run)
    metrics = run.metrics()
    assert pretended == [stage.name for stage in STAGES]
    assert {metrics[s.figures]["made"] for s in STAGES} == set(pretended)
    assert set(metrics["timing"]) == {f"{s.name}_s" for s in STAGES}


@pytest.mark.parametrize("stage", [s for s in STAGES if s.after], ids=lambda s: s.name)
def test_a_stage_without_its_input_is_refused_with_the_command_to_run(
    stage, run, recipe, pretended
):
    with pytest.raises(InputError) as caught:
        perform(stage, recipe, run)
    assert f"run `realchat {stage_named(stage.after[0]).verb} --run" in str(caught.value)
    assert pretended == []


def test_a_report_needs_something_to_report_on(run, recipe, pretended):
    with pytest.raises(InputError, match="nothing to report on yet"):
        perform(stage_named("report"), recipe, run)
    perform(stage_named("ingest"), recipe, run)
    perform(stage_named("report"), recipe, run)
    assert pretended == ["ingest", "report"]


def test_a_stage_that_fails_leaves_no_figures(run, recipe, monkeypatch):
    def fails(recipe, run):
        run.people.mkdir()
        raise InputError("bad source")

    monkeypatch.setitem(WORK, "ingest", fails)
    with pytest.raises(InputError, match="bad source"):
        perform(stage_named("ingest"), recipe, run)
    assert not run.is_done(stage_named("ingest"), recipe)
    assert run.metrics() == {}


def test_the_decision_to_leave_is_biased_as_training_measured(tmp_path, recipe, monkeypatch):
    settings = recipe.simulate.model_copy(update={"end_bias": 0.5})
    own = EngineSpec(model=str(tmp_path))
    assert calibrated(settings, own) == settings
    write_json(tmp_path / "realchat.json", {"opens": "user", "end_bias": -0.75})
    assert calibrated(settings, own).end_bias == -0.25
    write_json(tmp_path / "realchat.json", {"opens": "user", "end_bias": [0.5, -0.75]})
    assert calibrated(settings, own).end_bias == (1.0, -0.25)
    monkeypatch.setattr(stages, "resolve_checkpoint", lambda name: tmp_path)
    assert calibrated(settings, EngineSpec(model="somebody/usergpt")).end_bias == (1.0, -0.25)
    behind = EngineSpec(kind="endpoint", model="somebody/usergpt", url="http://localhost:1/v1")
    assert calibrated(settings, behind) == settings


def test_the_cards_facts_are_those_of_the_run(recipe):
    facts = stages._facts(
        recipe,
        {
            "user_model": {"perplexity": {"before": 20.0, "after": 17.0}},
            "curate": {"kept_share": 0.9, "funnel": [{"stage": "filters"}]},
            "versions": {"python": "3.11"},
        },
    )
    assert facts["recipe"] == recipe.fingerprint()
    assert sorted(facts["figures"].values()) == [0.9, 17.0, 20.0]
    assert facts["funnel"] == [{"stage": "filters"}]
    assert json.dumps(stages._facts(recipe, {}))
