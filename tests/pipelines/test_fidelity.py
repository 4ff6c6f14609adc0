"""The verb, on a tiny model with random weights and scripted speakers: shape, honesty, refusals."""

import json
import math
import random
import re
import shutil
from dataclasses import replace

import pytest
from scripted_run import recipe_of
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.fidelity import FidelityOptions, Scores, Work, _told
from pipelines.fidelity_inputs import Names, RealPeople, UserModel, read_simulation
from pipelines.fidelity_screen import shown
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from usersim.checkpoints import CARD
from usersim.conversation import Conversation, Message
from usersim.fidelity.summary import POINTS
from usersim.files import write_conversations, write_json
from usersim.intents import keep_told

WORDS = ["please", "show", "me", "that", "list", "of", "names", "sorted", "by", "age", "now"]


def talks(prefix, number, seed):
    generator = random.Random(seed)
    found = []
    for n in range(number):
        messages = []
        for _ in range(generator.randint(1, 3)):
            messages.append(Message("user", " ".join(generator.choices(WORDS, k=6)) + "?"))
            messages.append(Message("assistant", "Here it is."))
        found.append(Conversation(id=f"{prefix}{n}", messages=messages, stop_reason="user_ended"))
    return found


@pytest.fixture(scope="module")
def place(tiny_checkpoint, tmp_path_factory):
    """A run with people and a UserGPT, its engines scripted; and a file nobody has seen."""
    root = tmp_path_factory.mktemp("fidelity")
    run = RunFolder(root / "run")
    with run.locked():
        run.adopt(recipe_of("run"))
    shutil.copytree(tiny_checkpoint, run.user_model)
    about = {"opens": "user", "base": str(tiny_checkpoint), "end_bias": 0.5}
    about |= {"perplexity": {"told": {"profile": 9.0, "intent": 9.0}}}
    write_json(run.user_model / CARD, about)
    for split, number, seed in (("train", 20, 1), ("dev", 6, 2), ("test", 30, 3)):
        write_conversations(run.people / f"{split}.parquet", talks(split, number, seed))
    write_conversations(run.conversations / "part-00000.parquet", talks("sim", 40, 4))
    counts = {"guards": {"user:role_confusion": 2}, "candidates_passed_over": 60, "rejected": 1}
    write_json(run.metrics_file, {"simulate": counts})
    lines = [c.to_row() | {"id": None} for c in talks("new", 40, 5)]
    text = "\n".join(json.dumps({"messages": row["messages"]}) for row in lines)
    (root / "people.jsonl").write_text(text)
    return root


def call(*arguments):
    return CliRunner().invoke(app, ["fidelity", *map(str, arguments)])


@pytest.fixture(scope="module")
def measured(place):
    out = place / "out" / "fidelity.json"
    result = call(
        "--user-model", place / "run", "--reference", place / "people.jsonl",
        "--simulated", place / "run", "--limit", 30, "--baseline", 24, "--splits", 1, "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return result, json.loads(out.read_text()), out


@pytest.mark.slow
def test_every_point_has_its_figures(measured):
    _, table, _ = measured
    for key in ("user_model", "prompted", "with_profile", "with_both"):
        assert math.isfinite(table["perplexity"][key]["all"])
    assert table["perplexity"]["floor"]["high"] >= table["perplexity"]["floor"]["value"]
    assert table["termination"]["user_model"]["f1"]["value"] is not None
    assert table["termination"]["rounds"]["distance"]["value"] is not None
    for key in ("diversity", "surface", "two_sample", "role_adherence", "memorisation"):
        assert table[key]
    assert table["memorisation"]["openers"]["value"] is not None
    assert {row["point"] for row in table["summary"]} >= POINTS.keys() - {"conditions", "intents"}


@pytest.mark.slow
def test_the_baseline_stands_beside_and_says_how_it_was_chosen(measured):
    _, table, _ = measured
    about = table["about"]
    assert about["prompted"]["conversations"] > 0
    assert about["prompted"]["prompt"] == min(
        about["prompts_tried"], key=about["prompts_tried"].get
    )
    assert about["prompt_chosen_on"] == "the run's dev people"
    error = table["surface"]["groups"]["first"]["statistics"]["please"]["error"]
    assert error["prompted"]["value"] is not None


@pytest.mark.slow
def test_the_same_speaker_under_two_names_is_within_the_floor(measured):
    """Reference and simulation were drawn from one process here."""
    _, table, _ = measured
    rows = [r for r in table["summary"] if r["point"] == "two_sample" and r["value"] is not None]
    assert rows
    assert all(abs(row["value"] - 0.5) < 0.25 for row in rows)
    assert table["diversity"]["first_turn_diversity"]["difference"]["within"]


def test_what_a_run_refused_is_counted_over_all_that_it_drew(place):
    """Thirty of its forty conversations were looked at; refused were 2 of what all forty drew."""
    found = read_simulation(place / "run", 30)
    assert (len(found.persons), found.published, found.rejected) == (30, 40, 1)
    turns = sum(len(c.user_turns) for c in talks("sim", 40, 4))
    assert found.confusion_of_attempts == pytest.approx(2 / (turns + 2 + 60), abs=1e-4)


@pytest.mark.slow
def test_terminal_and_page_show_what_the_file_says(measured):
    result, table, out = measured
    page = out.with_suffix(".html").read_text()
    for row in table["summary"]:
        assert row["name"] in result.output
    assert page.count("<svg") >= 3
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="http', page)
    assert "conditions" in table["left_out"]
    assert "left out: conditions" in result.output


def test_what_cannot_be_had_is_left_out_with_the_reason(place):
    out = place / "bare" / "fidelity.json"
    shutil.copytree(place / "run" / "models" / "user", place / "bare" / "model")
    write_json(place / "bare" / "model" / CARD, {"opens": "user"})
    result = call(
        "--user-model", place / "bare" / "model", "--reference", place / "people.jsonl",
        "--conversations", 0, "--limit", 12, "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    table = json.loads(out.read_text())
    assert table["two_sample"] is None
    assert table["perplexity"]["user_model"]["all"] > 1
    assert table["left_out"]["surface"]
    assert "--base" in table["left_out"]["prompted"]
    assert table["about"]["prompt_chosen_on"].startswith("a tenth of the reference")


def test_people_that_the_model_learned_from_are_no_reference(place):
    train = place / "run" / "people" / "train.parquet"
    result = call("--user-model", place / "run", "--reference", train, "--out", place / "x.json")
    assert result.exit_code == 2
    assert "20 were in the model's training" in result.output


def test_nobody_who_is_reported_on_is_chosen_on_whatever_was_named(place):
    same = str(place / "people.jsonl")
    people = RealPeople.read(UserModel.named(str(place / "run")), Names(same, dev=same), 30)
    assert people.dev_name == "a tenth of the reference, set aside"
    assert people.dev
    assert not {p.id for p in people.dev} & {p.id for p in people.reference.persons}


def test_people_of_another_language_than_the_models_are_told_of(place, tmp_path, caplog):
    german = "Wie kann ich heute Abend ohne Butter einen Kuchen für meine Kinder backen? Danke!"
    people = [
        replace(c, messages=(Message("user", german), Message("assistant", "Mit Öl.")))
        if n < 5
        else c
        for n, c in enumerate(talks("mixed", 30, 7))
    ]
    rows = [json.dumps({"messages": c.to_row()["messages"]}) for c in people]
    (tmp_path / "mixed.jsonl").write_text("\n".join(rows))
    model = UserModel.named(str(place / "run"))
    RealPeople.read(model, Names(str(tmp_path / "mixed.jsonl")), 30)
    assert "5 of 30 people of the reference write in another language" in caplog.text
    caplog.clear()
    RealPeople.read(model, Names(str(place / "people.jsonl")), 30)
    assert not caplog.text


def test_the_user_model_is_told_what_its_training_told(place):
    model = UserModel.named(str(place / "run"))
    people = RealPeople.read(model, Names(str(place / "run" / "people" / "test.parquet")), 30)
    person = people.reference.persons[0].conversations[0]
    keep_told(place / "run" / "people", {person.id: "a list, in the end"})
    conditions = model.recipe.train_user.conditions.model_copy(update={"intent_words": 2})
    trained = model.recipe.train_user.model_copy(update={"conditions": conditions})
    recipe = model.recipe.model_copy(update={"train_user": trained})
    told = _told(replace(model, recipe=recipe), people)
    keep_told(place / "run" / "people", {})
    assert "You want: a list, in the end" in told["with_intent"](person)
    other = people.reference.persons[1].conversations[0]
    assert told["with_both"](other).count(", ") == 1, "two words, as many as in its training"


def baseline_of(place, engines, monkeypatch):
    """Who would speak as the baseline in a run with such engines, and what would be left out."""
    model = UserModel.named(str(place / "run"))
    model = replace(model, recipe=Recipe.checked({"engines": engines}, "test"))
    options = FidelityOptions(user_model="", reference="", out=place / "x.json", base="the-base")
    asked = []
    monkeypatch.setattr(
        "usersim.fidelity.baseline.simulated", lambda who, *_, **__: asked.append(who.user) or []
    )
    work = Work(model, options, "act as a user")
    work.ours()
    work.baseline()
    return asked, work.left_out


def test_the_baseline_has_nothing_of_what_the_user_model_learned(place, monkeypatch):
    """On one engine a UserGPT is an adapter over the model of both roles."""
    (ours, theirs), _ = baseline_of(place, {"placement": "one_engine"}, monkeypatch)
    assert ours.adapter.endswith("models/user/adapter")
    assert ours.model != str(place / "run" / "models" / "user")
    assert (theirs.model, theirs.adapter) == ("the-base", "")


def test_an_endpoint_that_serves_the_user_model_is_no_baseline(place, monkeypatch):
    served = {"kind": "endpoint", "url": "http://127.0.0.1:9/v1", "model": "usergpt"}
    asked, left_out = baseline_of(place, {"user": served}, monkeypatch)
    assert [spec.model for spec in asked] == ["usergpt"]
    assert "endpoint" in left_out["prompted"]


def test_a_wrong_name_is_one_message(place):
    result = call("--user-model", "./nowhere", "--reference", "x", "--out", place / "x.json")
    assert result.exit_code == 2
    assert "nowhere" in result.output


@pytest.mark.parametrize(
    ("option", "value", "status", "said"),
    [
        ("--simulated", "nowhere.jsonl", 2, "nowhere.jsonl"),
        ("--out", "figures.html", 2, "figures.html"),
        ("--out", "figures.work", 2, "figures.work"),
        ("--out", "run", 2, "a folder"),
        ("--out", "people.jsonl/x.json", 1, "cannot write"),
    ],
)
def test_what_cannot_be_read_or_written_is_known_before_any_model_works(
    place, monkeypatch, option, value, status, said
):
    monkeypatch.setattr(Scores, "of", lambda *_: pytest.fail("scored"))
    names = {"--out": place / "early.json", "--simulated": place / "run", option: place / value}
    result = call(
        "--user-model", place / "run", "--reference", place / "people.jsonl",
        *(part for pair in names.items() for part in pair),
    )  # fmt: skip
    assert result.exit_code == status, result.output
    assert said in result.output
    assert not (place / "early.json").exists()
    assert json.loads((place / "people.jsonl").read_text().splitlines()[0])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1234, "share", "12.3%"),
        (-0.5, "error", "-50.0%"),
        (19.876, "", "19.9"),
        (None, "", "\N{EN DASH}"),
    ],
)
def test_figures_are_shown_in_their_unit(value, unit, text):
    assert shown(value, unit) == text
