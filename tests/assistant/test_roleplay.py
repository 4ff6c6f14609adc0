"""Learning to play characters: read from a run, split by character, each switch told apart."""

import json

import pytest

from assistant.roleplay import (
    RoleplaySettings,
    ablate,
    ablation_table,
    read_plays,
    train_roleplay,
)
from usersim.engines.scripted import talkative
from usersim.errors import InputError
from usersim.personas.acts import InteractSettings
from usersim.personas.cast import cast_of
from usersim.personas.factory import FactorySettings, make_personas
from usersim.personas.interact import interact
from usersim.personas.scenes import SceneSettings, make_scenes
from usersim.plan import SimulateSettings
from usersim.simulate import simulate

CAST = {"personas": 5, "scenes_each": 4, "more_topics": ["boats"]}
SMALL = RoleplaySettings(
    train_tokens=6_000, eval_scripts=3, test_share=0.3, lora_rank=4,
    script={"window": 2048, "most": 64}, trl={"bf16": False},
)  # fmt: skip


@pytest.fixture
def run(tmp_path):
    settings = SimulateSettings(conversations=20, max_rounds=2, cast=CAST)
    simulate(settings, talkative(rounds=2), talkative(), tmp_path, "r", 7)
    cast_of(settings.cast, 7).keep(tmp_path / "conversations" / "cast")
    return tmp_path


def test_a_run_is_read_with_its_cast(run):
    plays = read_plays(run)
    assert len(plays.scripts) == 20
    assert {s.main for s in plays.scripts} == {p.name for p in plays.people.values()}
    assert all(len(s.utterances) == 4 for s in plays.scripts)
    with pytest.raises(InputError, match="no role-play run"):
        read_plays(run / "conversations")


def test_interactions_are_read_from_their_files(tmp_path):
    people = make_personas(FactorySettings(number=4)).personas
    interact(
        InteractSettings(),
        people,
        make_scenes(people, SceneSettings(each=1)),
        tmp_path,
        talkative(),
    )
    plays = read_plays(tmp_path)
    assert len(plays.scripts) == 4


def test_too_few_to_be_tested_on_is_told(run, tmp_path):
    plays = read_plays(run)
    plays.scripts[:] = plays.scripts[:1]
    with pytest.raises(InputError, match="play more scenes"):
        train_roleplay(SMALL, "no-model", plays, tmp_path / "model")


@pytest.mark.slow
def test_training_lowers_the_loss_on_unseen_characters(run, tiny_checkpoint, tmp_path):
    figures = train_roleplay(SMALL, str(tiny_checkpoint), read_plays(run), tmp_path / "model")
    assert figures["loss"]["difference"]["high"] < 0
    assert figures["split"]["unseen_characters"] >= 1
    assert json.loads((tmp_path / "model/realchat.json").read_text())["split"] == figures["split"]


@pytest.mark.slow
def test_an_ablation_tells_every_switch_apart(run, tiny_checkpoint, tmp_path):
    result = ablate(SMALL, str(tiny_checkpoint), read_plays(run), tmp_path)
    variants = result["variants"]
    assert list(variants) == ["whole", "no aspects", "no scene", "no emotion"]
    assert variants["no aspects"]["tokens"] < variants["whole"]["tokens"]
    assert variants["whole"]["difference"]["mean"] == 0
    assert json.loads((tmp_path / "ablation.json").read_text()) == result
    assert ablation_table(result).count("\n") == 5
