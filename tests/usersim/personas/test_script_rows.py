"""Rows of scripts: what is learned is exactly what the loss names, each once, with its header."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.personas.factory import FactorySettings, make_personas
from usersim.personas.scenes import SceneSettings, make_scenes
from usersim.personas.script import Script, Utterance
from usersim.personas.script_rows import GUEST, ScriptView, script_of, script_rows
from usersim.rows import IGNORED

CAST = make_personas(FactorySettings(number=3)).personas
SCENE = make_scenes(CAST, SceneSettings(each=1))[0]
NAMES = tuple(p.name for p in CAST)

said = st.builds(
    Utterance,
    speaker=st.sampled_from(NAMES),
    action=st.sampled_from(["speaking", "thinking"]),
    content=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(str.strip)
    | st.sampled_from(["<|im_end|>", "hi<|im_end|>\n<|im_start|>user\nx", "<|endoftext|>"]),
)
scripts = st.lists(said, min_size=2, max_size=14).map(
    lambda utterances: Script(
        id="s", scene=SCENE, speakers=NAMES, thinkers=NAMES, utterances=tuple(utterances)
    )
)


def learned(rows, chat):
    """Texts of the targets, by utterance number."""
    texts = []
    for row in rows:
        for t in row.targets:
            ids = row.input_ids[t.start : t.stop]
            assert row.labels[t.start : t.stop] == ids
            texts.append((t.turn, chat.tokenizer.decode(ids)))
    return texts


def expected(script, loss):
    """What the loss names, in order, as it is shown."""
    out = []
    for number, u in enumerate(script.heard_by(script.main)):
        if loss != "all" and u.speaker != script.main:
            continue
        if loss == "speech" and u.action == "thinking":
            continue
        own = "(to myself) " if u.action == "thinking" else ""
        text = f"{own}{u.content}" if u.speaker == script.main else f"{u.speaker}: {u.content}"
        out.append((number, f"{text}<|im_end|>"))
    return out


@pytest.mark.parametrize("loss", ["character", "all", "speech"])
@pytest.mark.parametrize("window", [4096, 2400])
@settings(max_examples=15, deadline=None)
@given(script=scripts)
def test_exactly_what_the_loss_names_is_learned_once(chatml, loss, window, script):
    view = ScriptView(window=window, most=256, loss=loss)
    rows = script_rows(script, CAST[0], chatml, view)
    assert learned(rows, chatml) == expected(script, loss)
    for row in rows:
        assert len(row.input_ids) <= window
        assert row.targets
        outside = [i for i in range(len(row.labels)) if not _within(i, row.targets)]
        assert all(row.labels[i] == IGNORED for i in outside)


def _within(i, targets):
    return any(t.start <= i < t.stop for t in targets)


@given(script=scripts)
@settings(max_examples=15, deadline=None)
def test_no_row_holds_what_another_one_thought(chatml, script):
    marked = Script(
        id="s", scene=SCENE, speakers=NAMES, thinkers=NAMES,
        utterances=tuple(
            Utterance(u.speaker, u.action, f"{u.action[0]}{n}# {u.content}")
            for n, u in enumerate(script.utterances)
        ),
    )  # fmt: skip
    for loss in ("character", "all", "speech"):
        rows = script_rows(marked, CAST[0], chatml, ScriptView(window=4096, loss=loss))
        text = "".join(chatml.tokenizer.decode(row.input_ids) for row in rows)
        for n, u in enumerate(marked.utterances):
            if u.action == "thinking" and (u.speaker != marked.main or loss == "speech"):
                assert f"t{n}# " not in text


TALK = Script(
    id="s", scene=SCENE, speakers=NAMES[:2], thinkers=NAMES[:1],
    utterances=tuple(
        Utterance(NAMES[n % 2], "speaking", f"line {n} " + "word " * 30) for n in range(20)
    ),
)  # fmt: skip


def test_every_row_has_the_whole_header_and_what_is_reacted_to(chatml):
    rows = script_rows(TALK, CAST[0], chatml, ScriptView(window=2400, most=200))
    assert len(rows) > 1
    for row in rows:
        text = chatml.tokenizer.decode(row.input_ids)
        assert f"You are {CAST[0].name}." in text
        for line in (SCENE.location, SCENE.background, f"Emotion: {SCENE.emotion}"):
            assert line in text
        first = row.targets[0].turn
        assert first == 0 or f"line {first - 1} " in text


def test_switches_take_their_lines_out_of_the_header(chatml):
    whole, bare = (
        chatml.tokenizer.decode(
            script_rows(TALK, CAST[0], chatml, ScriptView(window=4096, leave_out=out))[0].input_ids
        )
        for out in ((), ("aspects", "scene", "emotion"))
    )
    for line in (f"Your work: {CAST[0].career}", f"Location: {SCENE.location}", "Emotion: "):
        assert line in whole
        assert line not in bare


def test_a_window_too_small_for_header_and_two_utterances_is_refused(chatml):
    with pytest.raises(InputError, match="lower view"):
        script_rows(TALK, CAST[0], chatml, ScriptView(window=1500, most=192))


def test_a_session_becomes_a_script_and_broken_off_turns_teach_no_end(chatml):
    session = Conversation(
        id="c",
        messages=(Message("system", "x"), Message("user", "hello"), Message("assistant", "well")),
        character_id=CAST[0].id,
        scene_id=SCENE.id,
        cut_turns=(1,),
    )
    people, scenes = {p.id: p for p in CAST}, {SCENE.id: SCENE}
    script = script_of(session, people, scenes)
    assert [u.speaker for u in script.utterances] == [GUEST, CAST[0].name]
    personal = CAST[1].personal.model_copy(update={"name": CAST[0].name})
    double = CAST[1].model_copy(update={"personal": personal})
    met = script_of(replace(session, persona_id=double.id), people | {double.id: double}, scenes)
    assert met.speakers == script.speakers, "one of two who share a name is still told apart"
    rows = script_rows(script, CAST[0], chatml, ScriptView(window=4096))
    assert learned(rows, chatml) == [(1, "well")]
    assert Script.from_row(script.to_row()) == script
    with pytest.raises(InputError, match="no role-play of this cast"):
        script_of(session, people, {})
