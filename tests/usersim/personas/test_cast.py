"""Role-play in the ordinary simulation: who plays whom is planned, told to each side, and kept."""

import pytest
from pydantic import ValidationError

from usersim.conditions import user_system
from usersim.conversation import Conversation, Message
from usersim.engines.scripted import ScriptedEngine, talkative
from usersim.errors import InputError
from usersim.files import read_conversations
from usersim.personas.cast import CastSettings, cast_of
from usersim.personas.roleplay import profile_line
from usersim.personas.scenes import SceneSettings, read_scenes
from usersim.personas.schema import read_personas
from usersim.plan import Agenda, SimulateSettings
from usersim.simulate import simulate


def settings_of(**cast):
    return SimulateSettings(
        conversations=12, max_rounds=2, shard_size=5, cast={"personas": 4, "scenes_each": 3, **cast}
    )


class Listening(ScriptedEngine):
    """Talks, and remembers the system message of every prompt."""

    def __init__(self, role):
        self.told = []

        def script(messages, sampling):
            system = [m.content for m in messages if m.role == "system"]
            self.told.append(system[0] if system else "")
            return talk._script([m for m in messages if m.role != "system"], sampling)

        talk = talkative(rounds=2 if role == "user" else None)
        super().__init__(script, model=role)


def hold(tmp_path, settings):
    user, assistant = Listening("user"), Listening("assistant")
    figures = simulate(settings, user, assistant, tmp_path, "r", 7)
    rows = [
        c for p in (tmp_path / "conversations").glob("*.parquet") for c in read_conversations(p)
    ]
    return figures, rows, user, assistant


def test_every_scene_is_played_and_the_rows_say_by_whom(tmp_path):
    settings = settings_of()
    figures, rows, _, assistant = hold(tmp_path, settings)
    cast = cast_of(settings.cast, 7)
    assert figures["conversations"] == 12
    assert {c.scene_id for c in rows} == {s.id for s in cast.scenes}
    people = {p.id: p for p in cast.personas}
    scenes = {s.id: s for s in cast.scenes}
    for row in rows:
        assert scenes[row.scene_id].persona_id == row.character_id
        assert row.persona_id in people
        assert row.persona_id != row.character_id
        assert people[row.character_id].name in row.system
        assert scenes[row.scene_id].location in row.system
    assert set(assistant.told) == {c.system for c in rows}


def test_the_user_is_told_how_they_write_and_nothing_of_the_character_sheet(tmp_path):
    settings = settings_of()
    _, rows, user, _ = hold(tmp_path, settings)
    people = {p.id: p for p in cast_of(settings.cast, 7).personas}
    profiles = {profile_line(people[row.persona_id]) for row in rows}
    assert {told.rpartition("How you write: ")[2] for told in user.told} == profiles
    for person in people.values():
        assert not any(person.social.family in told for told in user.told)


def test_a_free_user_is_told_nothing(tmp_path):
    _, rows, user, _ = hold(tmp_path, settings_of(user="free"))
    assert set(user.told) == {""}
    assert {row.persona_id for row in rows} == {None}


def test_the_same_settings_and_seed_are_the_same_cast(tmp_path):
    settings = settings_of()
    agendas = [Agenda.of(settings, "r", 7, tmp_path) for _ in range(2)]
    assert agendas[0].plan(11) == agendas[1].plan(11)
    assert Agenda.of(settings, "r", 8, tmp_path).plan(11).brief != agendas[0].plan(11).brief
    assert agendas[0].plan(12).brief == agendas[0].plan(0).brief  # from the beginning again


def test_people_of_ones_own_play(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("career: cook\naspiration: rest\ntraits: [calm]\nskills: [soup]\n")
    cast = cast_of(CastSettings(file=str(path), scenes_each=2), 7)
    assert [b.persona_id for b in cast.briefs()] == ["", ""]
    assert all("Your work: cook." in b.assistant_system for b in cast.briefs())
    path.write_text(path.read_text().replace("cook", "pilot"))
    assert "pilot" in cast_of(CastSettings(file=str(path)), 7).briefs()[0].assistant_system
    with pytest.raises(InputError, match="cannot read"):
        cast_of(CastSettings(file=str(tmp_path / "none.yaml")), 7)


@pytest.mark.parametrize(
    ("name", "told"),
    [("aspect", "did you mean `aspects`"), ("name", "did you mean `personal.name`"),
     ("zzz", "known: aspects, scene, emotion")],
)  # fmt: skip
def test_what_would_leave_out_nothing_is_refused(name, told):
    with pytest.raises(ValidationError, match=told):
        CastSettings(leave_out=("scene", name))
    assert CastSettings(leave_out=("aspects", "social", "personal.age")).leave_out


def test_a_cast_is_kept_in_files(tmp_path):
    cast = cast_of(CastSettings(personas=3, scenes_each=2), 1)
    cast.keep(tmp_path)
    cast.keep(tmp_path)
    assert read_personas(tmp_path / "personas.jsonl") == list(cast.personas)
    assert read_scenes(tmp_path / "scenes.jsonl", SceneSettings()) == list(cast.scenes)
    with pytest.raises(InputError, match="are not those in"):
        cast_of(CastSettings(personas=3, scenes_each=2), 2).keep(tmp_path)


def test_a_conversation_has_one_origin_of_briefs():
    with pytest.raises(ValidationError, match="exclude each other"):
        SimulateSettings(briefs="x.jsonl", cast={"personas": 2})


def test_what_a_free_template_says_is_said_before_the_conditions():
    assert user_system("buy a boat").startswith("You are a person")


def test_rows_of_schema_1_are_read(tmp_path):
    row = Conversation(id="x", messages=(Message("user", "hi"),)).to_row()
    old = {key: row[key] for key in row if key not in ("character_id", "scene_id")}
    assert Conversation.from_row(old).character_id is None
