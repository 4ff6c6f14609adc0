"""The `personas` verbs: files out, figures on stdout, exit codes that mean something."""

import json

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from usersim.personas.scenes import read_scenes
from usersim.personas.schema import read_personas, write_personas
from usersim.personas.script import read_scripts


def realchat(*arguments):
    return CliRunner().invoke(app, ["personas", *map(str, arguments)])


def test_people_and_their_scenes_are_made_and_pass_the_check(tmp_path):
    people, scenes = tmp_path / "people.jsonl", tmp_path / "scenes.jsonl"
    done = realchat("make", "number=30", "--out", people, "--scenes", scenes, "--each", 3)
    figures = json.loads(done.stdout)
    assert (figures["personas"], figures["scenes"]["number"]) == (30, 90)
    assert len(read_personas(people)) == 30
    assert len(read_scenes(scenes)) == 90
    checked = realchat("check", people)
    assert (checked.exit_code, json.loads(checked.stdout)["near_duplicates"]) == (0, 0)


def test_people_speak_and_think_in_their_scenes(tmp_path):
    people, scenes = tmp_path / "p.jsonl", tmp_path / "s.jsonl"
    realchat("make", "number=4", "--out", people, "--scenes", scenes, "--each", 2)
    told = ["--people", people, "--scenes", scenes, "--out", tmp_path / "o", "--number", 5]
    scripted = ["engine.kind=scripted", "engine.model=talkative", "parties=3"]
    done = realchat("interact", *told, *scripted)
    made = read_scripts(tmp_path / "o/scripts.jsonl")
    assert json.loads(done.stdout)["scripts"] == len(made) == 5
    measured = realchat("measure", tmp_path / "o", "--judge", "echo", "engine.kind=scripted")
    figures = json.loads(measured.stdout)
    assert (figures["scripts"], figures["judge"]["unread"]) == (5, {"not_json": 5})


def test_data_in_another_layout_is_told(tmp_path):
    done = realchat("import", tmp_path, "--out", tmp_path / "o")
    assert (done.exit_code, "not SimsChat's layout" in done.stderr) == (2, True)


@pytest.mark.parametrize("verb", ["train", "ablate"])
def test_there_must_be_something_to_learn(verb, tmp_path):
    done = realchat(verb, tmp_path, "--out", tmp_path / "o")
    assert (done.exit_code, "neither scripts.jsonl nor a cast" in done.stderr) == (2, True)


def test_a_population_that_collapsed_is_told(tmp_path):
    realchat("make", "number=30", "--out", tmp_path / "p.jsonl")
    people = read_personas(tmp_path / "p.jsonl")
    twin = people[0].model_copy(
        update={"personal": people[0].personal.model_copy(update={"age": 90})}
    )
    write_personas(tmp_path / "p.jsonl", [*people, twin])
    with (tmp_path / "p.jsonl").open("a") as file:
        file.write('{"career": "cook"}\n')
    done = realchat("check", tmp_path / "p.jsonl")
    assert done.exit_code == 1
    assert f"first name '{twin.first_name}' stands 2 times among 31" in done.stderr
    assert f"{twin.name} and {twin.name} are alike (1.00)" in done.stderr
    assert "person 32: this is not a persona" in done.stderr


ASPECTS = "career: cook\naspiration: rest\ntraits: [calm]\nskills: [soup]\n"


def test_the_schema_is_one_that_editors_read():
    told = json.loads(realchat("schema").stdout)
    assert told["properties"]["traits"]["maxItems"] == 8
    assert told["additionalProperties"] is False


@pytest.mark.parametrize("layout", ["prose", "yaml", "json", "user"])
def test_four_aspects_are_shown_as_a_whole_person(layout, tmp_path):
    (tmp_path / "mine.yaml").write_text(ASPECTS)
    shown = realchat("show", tmp_path / "mine.yaml", "--format", layout)
    again = realchat("show", tmp_path / "mine.yaml", "--format", layout)
    assert shown.exit_code == 0
    assert shown.stdout == again.stdout
    assert ("opens with" if layout == "user" else "cook") in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["make", "nubmer=3", "--out", "x.jsonl"], "nubmer: Extra inputs"),
        (["make", "number=0", "--out", "x.jsonl"], "number: Input should be greater"),
        (["show", "mine.yaml", "--number", "2"], "holds 1 people"),
        (["show", "mine.yaml", "--format", "poem"], "no format 'poem'"),
        (["make", "--out", "x.jsonl", "--scenes", "s.jsonl", "--each", "0"], "--each"),
        (["measure", "played", "engine.kind=endpoint"], "--judge MODEL"),
        (["check", "missing.jsonl"], "cannot read missing.jsonl"),
    ],
)
def test_mistakes_are_told_with_exit_code_2(arguments, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(ASPECTS)
    done = realchat(*arguments)
    assert done.exit_code == 2
    assert problem in done.stderr
