"""Character-LLM's layouts: what is whole is read, what is broken is listed, nothing vanishes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.characters.experiences import to_conversation
from assistant.characters.layouts import MARKER, Broken, read_layout, utterances
from usersim.errors import InputError

PROMPT = (
    "Act like Nell Ashdown.\n\nLocation: The foundry, Marle\nStatus: Nell shows a visitor {round}."
)
OUTPUT = MARKER.join(
    [
        "Visitor (speaking): How is a bell cast?",
        "\nNell Ashdown (thinking): Where to begin.",
        "\nNell Ashdown (speaking): With clay, {wax} and patience.",
        "",
    ]
)
DIALOGUE = {
    "setting": ["x"],
    "location": "Marle",
    "background": "Nell is at work.",
    "source": "seed_3",
    "dialogue": [
        {"role": "Visitor", "action": "speaking", "content": "Is it hot?"},
        {"role": "Nell Ashdown", "action": "thinking", "content": "It is {hot}."},
        {"role": "Nell Ashdown", "action": "speaking", "content": "Stand back."},
    ],
}
SCENE = {"type": "Chat", "location": "Marle", "background": "Two friends meet.", "source": "p"}


def put(folder, name, *rows, layout="lines"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout == "array":
        path.write_text(json.dumps(list(rows)))
    else:
        texts = (json.dumps(r, indent=2 if layout == "pretty" else None) for r in rows)
        path.write_text("\n".join(texts))
    return path


@pytest.mark.parametrize("layout", ["lines", "array", "pretty"])
def test_all_three_forms_are_read_whatever_braces_the_text_holds(tmp_path, layout):
    """DC2: a pretty-printed object ends where JSON says, though its content is full of braces."""
    row = {"prompt": "a }{ b", "completions": ["}\n{"], "check_result": True, "retry_time": 0}
    put(tmp_path, "generated/raw.json", row, row, row, layout=layout)
    found = read_layout(tmp_path)
    assert found.counts == {"raw": 3}
    assert found.rejected == []


def test_prompted_rows_become_experiences(tmp_path):
    put(tmp_path, "prompted/nell.jsonl", {"prompt": PROMPT, "output": OUTPUT, "source": "seed_1"})
    (experience,) = read_layout(tmp_path).experiences
    assert experience.character == "Nell Ashdown"
    assert (experience.place, experience.paragraph) == ("The foundry, Marle", "seed_1")
    assert experience.status == "Nell shows a visitor {round}."  # DC1: not its last character
    assert [u.action for u in experience.utterances] == ["speaking", "thinking", "speaking"]
    talk = to_conversation(experience)
    assert talk.assistant_turns == ["(Where to begin.)\nWith clay, {wax} and patience."]


def test_dialogues_scenes_questions_and_results_are_read(tmp_path):
    put(tmp_path, "dialogue.jsonl", DIALOGUE)
    put(tmp_path, "scene.jsonl", SCENE)
    put(tmp_path, "questions.jsonl", {"topic_id": 1, "topic": "past", "question": "Where?"})
    single = {
        "topic_id": 1,
        "question": "Where?",
        "reply": [{"action": "speaking", "content": "Here."}],
    }
    put(tmp_path, "sft/nell.json", single, {**single, "reply": "There."}, layout="array")
    thought = {"action": "thinking", "content": "Hm."}
    said = {"action": "speaking", "content": "In Marle."}
    content = [
        {"turn_id": 1, "turn_role": "Man", "turn_content": [{"content": "Where?"}]},
        {"turn_id": 2, "turn_role": "Nell", "turn_content": [thought, said]},
    ]
    multi = {"character": "nell", "model": "m", "qid": 1, "finished": True, "content": content}
    put(tmp_path, "multi.jsonl", multi)
    found = read_layout(tmp_path)
    assert found.rejected == []
    assert found.counts == {"dialogue": 1, "scene": 1, "question": 1, "single": 2, "multi": 1}
    assert found.scenes[0]["type"] == "chat"
    assert [i.replies[0].text for i in found.interviews] == ["(Hm.)\nIn Marle.", "Here.", "There."]


BROKEN = [
    ({**SCENE, "background": "."}, "empty_background"),
    ({**SCENE, "type": "quarrel"}, "unknown_scene_type"),
    ({**SCENE, "location": ""}, "empty_field"),
    ({**DIALOGUE, "dialogue": DIALOGUE["dialogue"][:2]}, "too_short"),
    ({**DIALOGUE, "background": "."}, "empty_background"),
    ({**DIALOGUE, "dialogue": [{"role": "A", "action": "", "content": "x"}] * 3}, "unknown_action"),
    ({**DIALOGUE, "dialogue": ["x"] * 3}, "malformed_utterance"),
    ({"prompt": PROMPT, "output": "nobody says this" + MARKER}, "no_speaker"),
    ({"prompt": "no place", "output": OUTPUT}, "empty_background"),
    ({"prompt": PROMPT, "output": "A (speaking): x"}, "too_short"),
    ({"prompt": "x", "completions": [], "check_result": False}, "no_completion"),
    ({"something": "else"}, "unknown_fields"),
    ("just a text", "not_an_object"),
    ({"character": "n", "qid": 1, "content": []}, "too_short"),
]


@pytest.mark.parametrize(("row", "reason"), BROKEN)
def test_a_broken_row_is_listed_with_its_reason_and_the_next_is_read(tmp_path, row, reason):
    """DC4: no malformed row stops the reader."""
    put(tmp_path, "x.jsonl", row, SCENE)
    found = read_layout(tmp_path)
    assert found.reasons == {reason: 1}
    assert len(found.scenes) == 1
    assert json.loads(found.rejected[0].record)


def test_a_torn_object_costs_itself_only(tmp_path):
    path = tmp_path / "scene.json"
    path.write_text(json.dumps(SCENE)[:-9] + "\n" + json.dumps(SCENE) + "\n" + json.dumps(SCENE))
    found = read_layout(path)
    assert found.reasons == {"not_json": 1}
    assert len(found.scenes) == 2


def test_kept_and_rejected_are_all_that_was_there(tmp_path):
    rows = [row for row, _ in BROKEN] + [SCENE, DIALOGUE] * 5
    put(tmp_path, "x.jsonl", *rows)
    found = read_layout(tmp_path)
    assert len(found.rejected) + len(found.scenes) + len(found.experiences) == len(rows)


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6))
def test_the_marker_inside_a_text_ends_no_utterance(texts):
    texts = [f"{t} {MARKER} and on" for t in texts]
    output = MARKER.join(f"Ann (speaking): {t}" for t in texts)
    assert [u.text.split() for u in utterances(output)] == [t.split() for t in texts]


def reason_of(text):
    try:
        return "" if all(u.text for u in utterances(text)) else "an empty one"
    except Broken as broken:
        return broken.reason


@given(st.text())
def test_no_output_breaks_the_reader(text):
    assert reason_of(text) in {"", "no_speaker", "empty_field"}


def test_a_folder_without_any_data_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no \.json"):
        read_layout(tmp_path)
