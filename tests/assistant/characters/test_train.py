"""What a character learns from, whose turns are learned, and real training on a tiny model."""

import json
from dataclasses import replace

import pytest

from assistant.characters.experiences import to_conversation
from assistant.characters.profile import find_profile
from assistant.characters.train import (
    CharacterSettings,
    ExperienceSettings,
    conversations_of,
    make_experiences,
    own_header,
    read_experiences,
    rows_of,
    train_character,
)
from usersim.errors import InputError
from usersim.rows import IGNORED

TAMSIN = find_profile("tamsin-orrow")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_the_share_of_protective_experiences_is_what_was_asked_for(share):
    settings = ExperienceSettings(scenes=80, protective_share=share)
    made, figures = make_experiences(TAMSIN, settings, 7)
    guarded = [e for e in made if e.kind != "life"]
    assert len(guarded) / len(made) == pytest.approx(share, abs=0.01)
    assert figures["protective_share"] == pytest.approx(share, abs=0.01)
    assert len({e.id for e in made}) == len(made) == figures["experiences"]
    assert make_experiences(TAMSIN, settings, 7)[0] == made


def test_the_plain_occasion_is_no_sign_of_a_provocation():
    made, _ = make_experiences(TAMSIN, ExperienceSettings(scenes=100, plain_share=0.5), 7)
    plain = [e for e in made if e.kind == "life" and e.place == TAMSIN.about.place]
    assert 35 <= len(plain) <= 65
    headers = {to_conversation(e, TAMSIN.about.trade).system for e in plain}
    assert headers == {own_header(TAMSIN)}


def learned(chatml, loss):
    made, _ = make_experiences(TAMSIN, ExperienceSettings(scenes=16), 7)
    settings = CharacterSettings(loss=loss, view={"window": 4096})
    talk = to_conversation(made[0], TAMSIN.about.trade)
    rows = rows_of(chatml, settings)(talk)
    return talk, [chatml.tokenizer.decode([i for i in row.labels if i != IGNORED]) for row in rows]


def test_the_loss_is_on_the_character_or_on_everybody(chatml):
    talk, (own,) = learned(chatml, "character")
    assert all(turn in own for turn in talk.assistant_turns)
    assert not any(turn in own for turn in talk.user_turns)
    _, (own_again, others) = learned(chatml, "all")
    assert own_again == own
    assert all(turn in others for turn in talk.user_turns)


def test_thoughts_are_learned_or_in_no_row(chatml):
    made, _ = make_experiences(TAMSIN, ExperienceSettings(scenes=16, thoughts=1.0), 7)
    thoughts = [u.text for e in made for u in e.utterances if u.action == "thinking"]
    assert len(thoughts) >= 16
    for loss, there in (("character", True), ("all", True), ("speech", False)):
        settings = CharacterSettings(loss=loss, view={"window": 8192})
        told = conversations_of(made, TAMSIN, settings, 7)
        rows = [row for talk in told for row in rows_of(chatml, settings)(talk)]
        text = "".join(chatml.tokenizer.decode(row.input_ids) for row in rows)
        assert all((f"({thought})" in text) == there for thought in thoughts)


def test_experiences_of_ones_own_are_learned_from(tmp_path):
    made, _ = make_experiences(TAMSIN, ExperienceSettings(scenes=16, protective_share=0), 7)
    stranger = replace(made[0], character="Somebody Else")
    path = tmp_path / "mine.jsonl"
    rows = [e.to_row() for e in [*made[:5], stranger]]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    settings = ExperienceSettings(file=str(path), plain_share=0, protective_share=0.5)
    found, counts = make_experiences(TAMSIN, settings, 7)
    assert [e for e in found if e.kind == "life"] == made[:5]
    assert counts["protective"] == 5
    with pytest.raises(InputError, match="of Somebody Else, Tamsin Orrow, and none of Joram"):
        read_experiences(path, "Joram Pell")
    with pytest.raises(InputError, match="cannot read"):
        read_experiences(tmp_path / "none.jsonl", "Joram Pell")


def test_nothing_to_learn_from_is_told(tmp_path):
    with pytest.raises(InputError, match="no experiences"):
        train_character(CharacterSettings(), "x", TAMSIN, [], tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [16, 0])
def test_a_character_is_trained_probed_and_kept_with_its_adapter(tiny_checkpoint, tmp_path, rank):
    """By an adapter, or all weights."""
    from assistant.characters.probes import change, figures, pairs_of, probe, prompted

    made, _ = make_experiences(TAMSIN, ExperienceSettings(scenes=16), 7)
    view = {"window": 2048, "context_limit": 400}
    settings = CharacterSettings(train_tokens=6000, view=view, lora_rank=rank)
    out = tmp_path / "tamsin"
    found = train_character(settings, str(tiny_checkpoint), TAMSIN, made, out)
    assert found["training"]["losses"][-1][1] < found["training"]["losses"][0][1]
    assert (out / "adapter" / "adapter_model.safetensors").is_file() == bool(rank)
    pairs = pairs_of(TAMSIN)[:6]
    before = probe(tiny_checkpoint, prompted(TAMSIN), pairs, "base")
    after = probe(out, own_header(TAMSIN), pairs, "trained")
    assert len(before) == len(after) == 6
    assert figures(after)["fact"]["pairs"] == 6
    assert change(before, after)["fact"]["margin"]["low"] is not None
    assert change(before, before)["fact"]["margin"]["mean"] == 0.0


@pytest.mark.parametrize("rounds", [1, 4, 9])
def test_the_plain_occasion_is_told_in_one_go_and_nothing_is_lost(rounds):
    made, _ = make_experiences(TAMSIN, ExperienceSettings(scenes=60, plain_share=0.7), 7)
    apart = [to_conversation(e, TAMSIN.about.trade) for e in made]
    settings = CharacterSettings(plain_rounds=rounds)
    told = conversations_of(made, TAMSIN, settings, 7)
    assert sorted(t for c in told for t in c.assistant_turns) == sorted(
        t for c in apart for t in c.assistant_turns
    )
    assert len({c.id for c in told}) == len(told)
    plain = [c for c in told if c.system == own_header(TAMSIN)]
    longest = max(len(c.assistant_turns) for c in apart)
    assert all(len(c.assistant_turns) < rounds + longest for c in plain)
    assert sum(len(c.assistant_turns) >= rounds for c in plain) >= len(plain) - 1
    assert conversations_of(made, TAMSIN, settings, 7) == told
    if rounds > 1:
        kinds = {e.utterances[1].text: e.kind for e in made}
        mixed = [{kinds.get(t) == "life" for t in c.assistant_turns} for c in plain]
        assert any(len(kinds) > 1 for kinds in mixed)  # provocations come amid ordinary talk
