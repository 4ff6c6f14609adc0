import math

import pytest
from made_talks import talks

from usersim.chat_format import FREE_SYSTEM
from usersim.fidelity.likelihood import (
    PROMPTS,
    Context,
    _key,
    _rows,
    perplexity_figures,
    playing_user,
    scored,
)
from usersim.fidelity.persons import conversations_of, persons_of
from usersim.perplexity import TargetScore
from usersim.rows import IGNORED, Row, Target, ViewSettings


def planted(persons, nll):
    """Scores of every turn: ten tokens, `nll` nats each, one more for first turns."""
    return [
        TargetScore(c.id, 2 * n, 10 * (nll + (n == 0)), 10, 0.1, is_end=False)
        for c in conversations_of(persons)
        for n in range(len(c.user_turns))
    ]


def test_perplexities_of_planted_likelihoods():
    people = persons_of(talks("r", 30, 1, turns=3))
    found = perplexity_figures(
        people, {"user_model": planted(people, 2.0), "prompted": planted(people, 2.5)}
    )
    ours = found["user_model"]
    assert ours["first"]["value"] == pytest.approx(math.exp(3), abs=1e-3)
    assert ours["later"]["value"] == pytest.approx(math.exp(2), abs=1e-3)
    assert ours["all"] == pytest.approx(math.exp(2 + 1 / 3), abs=1e-3)
    assert ours["by_turn"]["3"]["value"] == pytest.approx(math.exp(2), abs=1e-3)
    assert ours["by_turn"]["4"]["value"] is None
    assert ours["change"]["all"]["value"] == pytest.approx(math.exp(-0.5) - 1, abs=1e-4)
    assert found["floor"]["value"] == pytest.approx(0.0, abs=1e-6)  # all people are alike here
    assert (found["turns"], found["tokens"]) == (90, 900)


def test_the_floor_shows_how_people_differ():
    people = persons_of(talks("r", 30, 1, turns=1))
    scores = [
        TargetScore(p.id, 0, 10.0 * (1 + n % 2), 10, 0.1, is_end=False)
        for n, p in enumerate(people)
    ]
    found = perplexity_figures(people, {"user_model": scores})
    assert 0 < found["floor"]["value"] <= found["floor"]["high"]
    assert found["user_model"]["low"] < found["user_model"]["all"] < found["user_model"]["high"]


def test_every_user_turn_is_scored_once_whatever_the_model_is_told(tiny_checkpoint):
    people = talks("r", 3, 1, turns=4)
    context = Context(view=ViewSettings(window=400, target_limit=64, context_limit=32))
    told = {name: (lambda c, n=n: PROMPTS[n]) for n, name in enumerate(("a", "b"))}
    found = scored(tiny_checkpoint, people, told, context)
    for scores in found.values():
        turns = [(s.conversation_id, s.turn) for s in scores if not s.is_end]
        assert sorted(turns) == sorted({(c.id, n) for c in people for n in (0, 2, 4, 6)})
    assert [s.nll for s in found["a"]] != [s.nll for s in found["b"]]
    assert playing_user(tiny_checkpoint).opens == "user"


def test_who_is_told_more_sees_as_much_of_the_conversation(chatml):
    person = talks("r", 1, 1, turns=12)[0]
    context = Context(view=ViewSettings(window=300, target_limit=64, context_limit=32), windows=99)
    chat = chatml.playing("user", FREE_SYSTEM)
    seen = [
        [
            len(row.input_ids) - len(told or FREE_SYSTEM)
            for row in _rows(person, chat, context, told)
        ]
        for told in ("", *PROMPTS)
    ]
    assert len(seen[0]) > 2
    assert all(other == seen[0] for other in seen)


def test_scores_are_kept_and_one_person_is_not_most_of_them(tiny_checkpoint, tmp_path):
    people = talks("r", 2, 1, turns=8)
    view = ViewSettings(window=200, target_limit=64, context_limit=32)
    told = {"user_model": lambda c: ""}
    few = scored(tiny_checkpoint, people, told, Context(view=view, windows=1), tmp_path)
    assert {s.conversation_id for s in few["user_model"]} == {c.id for c in people}
    again = scored(tiny_checkpoint, people, told, Context(view=view, windows=1), tmp_path)
    assert again == few
    every = scored(tiny_checkpoint, people, told, Context(view=view, windows=99), tmp_path)
    assert len(every["user_model"]) > len(few["user_model"])
    assert len(list(tmp_path.iterdir())) == 2


def test_scores_of_other_weights_are_never_taken_for_these(tmp_path):
    """Older checkpoints keep their weights in a .bin."""
    row = Row("c", [1, 2, 3], [IGNORED, 2, 3], [Target(0, 1, 3)])
    keys = []
    for name in ("base", "user"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pytorch_model.bin").write_bytes(name.encode())
        keys.append(_key(tmp_path / name, [row]))
    asked_less = Row("c", [1, 2, 3], [IGNORED, 2, IGNORED], [Target(0, 1, 2)])
    keys.append(_key(tmp_path / "user", [asked_less]))
    assert len(set(keys)) == 3
