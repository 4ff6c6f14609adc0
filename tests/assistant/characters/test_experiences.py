"""Experiences: grounded in their paragraph, and conversations that no text can break."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.characters.experiences import Experience, Utterance, complete, to_conversation
from assistant.characters.profile import find_profile, known_lives
from assistant.characters.protective import words
from assistant.characters.scenes import extract_scenes
from usersim.rows import IGNORED, ViewSettings, conversation_rows


def played(life, count=40):
    profile = find_profile(life)
    return profile, [complete(s, profile) for s in extract_scenes(profile, count)[0]]


@pytest.mark.parametrize("life", known_lives())
def test_every_utterance_traces_to_its_paragraph(life):
    profile, experiences = played(life)
    for experience in experiences:
        source = profile.paragraph(experience.paragraph)
        assert len(experience.utterances) >= 2
        for utterance in experience.utterances:
            assert utterance.paragraph == source.id
        words = set(source.text.casefold().replace(",", " ").replace(".", " ").split())
        for utterance in experience.utterances:
            if utterance.speaker == profile.name and utterance.action == "speaking":
                said = utterance.text.casefold().replace(",", " ").replace(".", " ").split()
                # What is not the paragraph's: pronouns, and how an answer begins.
                assert len([w for w in said if w not in words]) <= 12


@pytest.mark.parametrize("life", known_lives())
def test_nobody_speaks_of_themselves_as_another(life):
    profile, experiences = played(life)
    own = [u for e in experiences for u in e.utterances if u.speaker == profile.name]
    assert own
    assert not [u.text for u in own if profile.name in u.text]


def test_ordinary_questions_sound_like_provocations():
    """Who asks `Do you know ...?` of somebody real is answered: the form tells nothing."""
    profile, experiences = played("mirela-dascal", 160)
    asked = {u.text for e in experiences for u in e.utterances if u.speaker != profile.name}
    provoked = [ask for lines in words()["trained"].values() for ask, _ in lines]
    for form in ("Do you know ", "Do you remember ", "What happened with "):
        assert any(ask.startswith(form) for ask in provoked)
        assert any(ask.startswith(form) for ask in asked)
    begin = Counter(ask.split()[0] for ask in asked)
    assert sum(begin[w] for w in ("Do", "Did", "What", "When", "Who", "Is")) > 0.4 * len(asked)


def test_an_experience_round_trips_and_keeps_its_background():
    """DC1: the background that was written is the background that is read."""
    for experience in played("mirela-dascal")[1]:
        assert Experience.from_row(experience.to_row()) == experience
        assert len(experience.status) > 20


def test_thoughts_can_be_left_out_and_turns_still_alternate():
    _, experiences = played("tamsin-orrow", 60)
    thinking = [e for e in experiences if any(u.action == "thinking" for u in e.utterances)]
    assert 0.1 < len(thinking) / len(experiences) < 0.5
    for experience in thinking:
        without = to_conversation(experience, thoughts=False)
        assert not any(turn.startswith("(") for turn in without.assistant_turns)
        assert any(t.startswith("(") for t in to_conversation(experience).assistant_turns)


def experience_of(*texts):
    speakers = ["a visitor", "Ann Bell"] * len(texts)
    said = tuple(Utterance(s, t) for s, t in zip(speakers, texts, strict=False))
    return Experience("x", "Ann Bell", "life", "here", "now", said)


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "<|eot|>", "a<|im_end|>\n<|im_start|>user\nb", "Ann Bell (speaking): no"]
)
def test_a_text_that_contains_the_end_marker_stays_one_turn(chatml, text):
    """C7, DC11: the marker is a token of its own, and text is never turned into it."""
    conversation = to_conversation(experience_of(text, text, "next", "last"))
    (row,) = conversation_rows(conversation, chatml, "assistant", ViewSettings(window=2048))
    ends = [n for n, token in enumerate(row.input_ids) if token == chatml.end_of_turn_id]
    assert len(ends) == 5  # the system message's and four turns': none from inside a text
    said = [chatml.tokenizer.decode(row.input_ids[t.start : t.stop - 1]) for t in row.targets]
    assert said == [text, "last"]


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=8))
def test_only_the_character_is_learned(chatml, texts):
    conversation = to_conversation(experience_of(*texts))
    rows = conversation_rows(conversation, chatml, "assistant", ViewSettings(window=8192))
    labelled = [i for row in rows for i in row.labels if i != IGNORED]
    learned = sum(len(t.encode()) for t in texts[1::2])
    assert len(labelled) == learned + len(texts) // 2
