"""SimsChat's layout, in our own words: counts are the data's, every planted defect is listed."""

import json

import pytest

from usersim.errors import InputError
from usersim.files import read_rows
from usersim.personas.script import read_scripts
from usersim.personas.sims_import import read_simschat
from usersim.personas.vocabulary import EMOTIONS

MAIN, OTHER = "Tilda Quick", "Bo Marsh"
SPOKEN = {"role": MAIN, "action": "(speaking)", "content": "x"}


def utterances(*changes):
    """Six legal utterances, a thought among them; changes replace fields of the last ones."""
    rows = [
        {"role": MAIN, "action": "thinking", "content": "How do I tell them that the bus is gone?"},
        {"role": MAIN, "action": "speaking", "content": "You are early, and the bus is earlier."},
        {"role": OTHER, "action": "speaking", "content": "Then we walk and you tell me why."},
        {"role": MAIN, "action": "speaking", "content": "It is nine miles and a long story."},
        {"role": OTHER, "action": "Speaking", "content": "I have sandwiches for eight of them."},
        {"role": MAIN, "action": "speaking", "content": "Then the ninth mile is on me."},
    ]
    for place, change in enumerate(changes, 1):
        rows[-place] |= change
    return rows


def dialogue(number, said=None, **change):
    row = {
        "setting": ["x"], "emotion": EMOTIONS[number % 16].title(), "topic": ["Small talk."],
        "dialogue": said or utterances(), "location": "a bus stop", "background": ".",
        "source": f"seed_dialogue_{number}_c0",
    }  # fmt: skip
    return row | change


@pytest.fixture
def layout(tmp_path):
    """One character of 8 scenes; 7 dialogues, some of them broken as SimsChat's are."""
    scenes = [
        {"type": "Chat", "location": "a bus stop", "source": f"seed_scene_{n}_c0", "profile": "x",
         "background": f"Tilda has missed the bus {n + 1} times this week."} for n in range(8)
    ]  # fmt: skip
    scenes[5]["type"] = "stand-up comedy"
    rows = [
        dialogue(0),
        dialogue(1, utterances({"action": ""})),
        dialogue(2, utterances({"action": "Then the ninth mile is on me."}, {"content": " "})),
        dialogue(3, topic=["Hobby"]),
        dialogue(4, topic=["quantum gravity"]),
        dialogue(5),
        dialogue(7, [SPOKEN | {"action": "speaking"}]),
    ]
    questions = [[f"{n}. What do you do at stop {n}?" for n in range(50)]]
    for folder, name, value in [
        ("scene", "generated_agent_scene_Tilda_Quick.json", scenes),
        ("dialogue", "generated_agent_dialogue_Tilda_Quick.json", rows),
        ("interview", "generated_agent_interview_Tilda_Quick.json", questions),
    ]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(json.dumps(value))
    (tmp_path / "characters").mkdir()
    (tmp_path / "characters/wiki_Tilda_Quick.txt").write_text("# Tilda Quick\n\nYou miss buses.\n")
    return tmp_path


def reasons_of(found):
    return {(r.id, r.reason) for r in found.rejections}


def test_counts_are_those_of_the_data(layout):
    figures = read_simschat(layout).figures()
    counted = {k: figures[k] for k in ("characters", "scenes", "dialogues", "utterances")}
    assert counted == {"characters": 1, "scenes": 8, "dialogues": 7, "utterances": 37}
    assert figures["questions"] == 50


def test_every_planted_defect_is_listed_with_its_reason(layout):
    """DS2, DS3: malformed actions, and a scene that no dialogue plays, are told."""
    assert reasons_of(read_simschat(layout)) == {
        (f"{MAIN}/1/5", "empty_action"),
        (f"{MAIN}/2/5", "unknown_action"),  # it holds the sentence itself
        (f"{MAIN}/2/4", "empty_utterance"),
        (f"{MAIN}/4", "off_list_label"),
        (f"{MAIN}/5", "off_list_label"),  # the scene's type
        (f"{MAIN}/6", "too_few_utterances"),
        (f"{MAIN}/scene 6", "missing_dialogue"),
    }


def test_what_is_whole_becomes_scripts(layout, tmp_path):
    found = read_simschat(layout)
    assert [s.id for s in found.scripts] == [f"{MAIN}/{n}" for n in (0, 1, 2, 3)]
    first = found.scripts[0]
    assert (first.speakers, first.thinkers) == ((MAIN, OTHER), (MAIN,))
    assert first.scene.background == "Tilda has missed the bus 1 times this week."
    assert (first.scene.topic, found.scripts[3].scene.topic) == ("small talk", "hobbies")
    assert [len(s.utterances) for s in found.scripts] == [6, 5, 4, 6]
    found.write(tmp_path / "out")
    assert read_scripts(tmp_path / "out/scripts.jsonl") == found.scripts
    assert len(read_rows(tmp_path / "out/rejected.parquet")) == 7


def test_topics_are_counted_as_they_were_spelled(layout):
    """Free text once gave 79 spellings of 18 topics: each is counted, the label is one of ours."""
    found = read_simschat(layout)
    assert found.spellings == {"Small talk.": 5, "Hobby": 1, "quantum gravity": 1}


def test_objects_written_one_after_another_are_read_and_a_torn_end_is_told(layout):
    path = layout / "dialogue/generated_agent_dialogue_Tilda_Quick.json"
    text = "\n".join(json.dumps(dialogue(n), indent=2) for n in range(8))
    path.write_text(text + '\n{"setting": ["torn')
    found = read_simschat(layout)
    assert found.dialogues == 8
    assert ("generated_agent_dialogue_Tilda_Quick.json", "not_json") in reasons_of(found)


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"[" * 100_000, b"[1, 2", b"{'a': 1}"])
def test_a_file_that_is_no_json_is_told_and_stops_nothing(layout, content):
    path = layout / "dialogue/generated_agent_dialogue_Tilda_Quick.json"
    path.write_bytes(content)
    found = read_simschat(layout)
    assert (path.name, "not_json") in reasons_of(found)
    assert found.scripts == []


def test_a_missing_file_and_a_strange_folder_are_told(layout, tmp_path):
    (layout / "interview/generated_agent_interview_Tilda_Quick.json").unlink()
    assert "missing_file" in {reason for _, reason in reasons_of(read_simschat(layout))}
    with pytest.raises(InputError, match="not SimsChat's layout"):
        read_simschat(layout / "scene")


@pytest.mark.parametrize("junk", [3, None, "text", {"dialogue": 7}, {"dialogue": [None, []]}, {}])
def test_junk_is_listed_and_stops_nothing(layout, junk):
    path = layout / "dialogue/generated_agent_dialogue_Tilda_Quick.json"
    path.write_text(json.dumps(dialogue(0)) + "\n" + json.dumps(junk))
    found = read_simschat(layout)
    assert found.dialogues == 2
    assert len(found.scripts) == 1
    assert f"{MAIN}/1" in {r.id for r in found.rejections}
