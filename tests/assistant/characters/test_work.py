"""The two stages of a character with scripted engines: whole, resumable, counted."""

import json

import pytest

from assistant.characters import work
from assistant.characters.interviews import Interview, Said
from assistant.characters.probes import Margin
from assistant.characters.profile import find_profile
from assistant.characters.work import CharacterTable, InterviewTable, Place
from usersim.engines import EngineSpec
from usersim.engines.scripted import ScriptedEngine, talkative

TAMSIN = find_profile("tamsin-orrow")
TABLE = InterviewTable(
    interviews={"repeats": 2, "facts": 5, "conversations": 2, "rounds": 2},
    judged=6,
    judge={"repeats": 2},
    judges=({"model": "first"}, {"model": "second"}),
)


def answering(name):
    """The trained one knows nothing of computers; the base is a helpful assistant."""

    def script(messages, sampling):
        if sampling.schema:
            return json.dumps({"reason": "so", "score": 1 + sampling.seed % 7})
        if name == "trained":
            return f"I do not know that. I am Tamsin Orrow {sampling.seed}."
        return f"Yes, of course! As an AI I can help {sampling.seed}."

    return ScriptedEngine(script, name)


@pytest.fixture
def scripted(monkeypatch):
    opened = []

    def open_engine(spec):
        name = spec.name or spec.model
        opened.append(talkative(model="user") if name == "user" else answering(name))
        return opened[-1]

    def probe(model, system, pairs, title):
        gain = 0.5 if "trained" in title else -0.5
        return [Margin(p.kind, p.ask, gain) for p in pairs]

    monkeypatch.setattr(work, "open_engine", open_engine)
    monkeypatch.setattr(work.probes, "probe", probe)
    return opened


def interviewed(folder):
    user = EngineSpec(name="user")
    return work.interview_stage(TABLE, "tamsin-orrow", "base", Place(folder), user)


def test_the_trained_one_is_held_against_its_prompted_base(scripted, tmp_path):
    found = interviewed(tmp_path)
    assert found["probes"]["changes"]["prompted_to_trained"]["fact"]["right"]["mean"] == 1.0
    assert found["refusal_changes"]["prompted_to_trained"]["boundary"]["mean"] == 1.0
    assert found["refusals"]["trained"]["machine"]["questions"] == 8
    assert found["consistency"]["trained"]["questions"] == 5
    planned = 2 * (5 + 32) + 2
    assert {c["interviews"] for c in found["interviews"].values()} == {planned}  # DC10
    judged = found["judged"]
    assert judged["judges"] == ["first", "second"]
    assert {m["wanted"] - m["read"] for m in judged["models"].values()} == {0}
    assert judged["between_judges"]["trained"]["values"]["kappa"] == 1.0
    assert judged["models"]["trained"]["stability_by_turn"][0]["turn"] == 1
    assert all(engine.closed for engine in scripted)


def test_the_same_call_again_asks_nothing(scripted, tmp_path):
    first = interviewed(tmp_path)
    before = len(scripted)
    second = interviewed(tmp_path)
    assert sum(engine.calls for engine in scripted[before:]) == 0
    assert second["refusals"] == first["refusals"]
    assert (
        second["judged"]["models"]["trained"]["scores"]
        == (first["judged"]["models"]["trained"]["scores"])
    )


def test_of_a_model_that_goes_on_and_on_the_whole_replies_are_judged():
    def talk(kind, finish):
        turns = (Said("user", "Who?"), Said("assistant", "I.", finish))
        return Interview("T", "m", "", kind, "Who?", 0, "rounds", turns)

    talks = [talk("open", "length"), *(talk("fact", "length") for _ in range(30))]
    talks.insert(17, talk("fact", "stop"))
    assert work._chosen(talks, 4, True) == [talks[17]]
    assert len(work._chosen(talks, 4, False)) == 4


def test_training_writes_what_was_learned_and_the_ablation_leaves_protection_out(
    monkeypatch, tmp_path
):
    seen = {}

    def train_character(settings, base, profile, experiences, out, seed):
        seen[out.name] = experiences
        return {"base": base, "experiences": len(experiences)}

    monkeypatch.setattr(work, "train_character", train_character)
    table = CharacterTable(ablation=True, experiences={"scenes": 40, "protective_share": 0.2})
    found = work.train_stage(table, "base", Place(tmp_path), 7)
    guarded = [e for e in seen["character"] if e.kind != "life"]
    assert len(guarded) == found["experiences"]["protective"] == 10
    assert seen["unguarded"] == [e for e in seen["character"] if e.kind == "life"]
    lines = (tmp_path / "character/made/experiences.jsonl").read_text().splitlines()
    assert len(lines) == 50


def test_an_engine_may_write_the_scenes(monkeypatch, tmp_path):
    monkeypatch.setattr(work, "open_engine", lambda spec: answering("writer"))
    monkeypatch.setattr(work, "train_character", lambda *arguments: {})
    table = CharacterTable(experiences={"scenes": 20, "writer": "engine"})
    found = work.train_stage(table, "base", Place(tmp_path), 7)
    assert found["experiences"]["writing"]["refused"] == {"wrong_fields": 20}
