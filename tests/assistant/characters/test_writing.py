"""Experiences that an engine writes: read under a schema, held against their paragraph."""

import asyncio
import json

import pytest

from assistant.characters.profile import find_profile
from assistant.characters.scenes import extract_scenes
from assistant.characters.structured import schema_of
from assistant.characters.voice import first_person
from assistant.characters.writing import Script, grounded, write_experiences
from usersim.engine import Completion
from usersim.engines.scripted import ScriptedEngine, dying, refusing
from usersim.errors import WorldError

TAMSIN = find_profile("tamsin-orrow")
SCENES, _ = extract_scenes(TAMSIN, 60)


def script_of(*rounds):
    keys = ("asked", "answered")
    return json.dumps({"rounds": [dict(zip(keys, said, strict=True)) for said in rounds]})


def faithful(messages):
    """What a good writer answers: the notes, in the first person."""
    notes = messages[-1].content.partition("Notes: ")[2].split("\n")[0]
    said = first_person(notes, TAMSIN)[:120]
    return script_of(("Tell me.", said))


def written(folder, engine):
    return asyncio.run(write_experiences(SCENES, TAMSIN, engine, folder, 7))


def test_every_line_of_a_written_scene_traces_to_its_paragraph(tmp_path):
    engine = ScriptedEngine(lambda messages, sampling: faithful(messages), "writer")
    made, refused, counts = written(tmp_path, engine)
    assert refused == []
    assert counts["written"] == len(made) == len(SCENES)
    assert {e.paragraph for e in made} == {p.id for p in TAMSIN.paragraphs}
    for scene, experience in zip(SCENES, made, strict=True):
        assert experience.writer == "writer"
        assert experience.status == scene.background
        assert {u.paragraph for u in experience.utterances} == {scene.paragraph}
        own = " ".join(u.text for u in experience.utterances if u.speaker == TAMSIN.name)
        assert grounded(own, TAMSIN, scene.paragraph) > 0.8
    again = ScriptedEngine(lambda messages, sampling: faithful(messages), "writer")
    assert written(tmp_path, again)[0] == made
    assert again.calls == 0


PLANTED = {
    "not_json": "The wind howled. Tamsin said hello.",
    "wrong_fields": '{"rounds": [{"asked": "Who is there?"}]}',
    "out_of_range": '{"rounds": []}',
    "empty_line": script_of((" " * 8, "I built the clock by the water.")),
    "ungrounded": script_of(("Well?!", "Dragons circled purple moons above Tokyo yesterday.")),
}


def test_an_answer_is_written_after_its_question():
    """A grammar writes the fields in the order of the schema."""
    fields = json.loads(schema_of(Script))["$defs"]["Round"]["properties"]
    assert list(fields) == ["asked", "thought", "answered"]


SILENT = ("............", "            ", "no")
"""Answers in which the character says nothing: the schema or the paragraph refuses each."""


def test_every_planted_malformed_script_is_refused_with_its_reason(tmp_path):
    """And the template plays the scene in its place: no scene is lost."""
    planted = {}

    def noisy(messages, sampling):
        number = sampling.seed - 7
        if number % 2:
            return faithful(messages)
        reason = list(PLANTED)[(number // 2) % len(PLANTED)]
        planted[SCENES[number].id] = reason
        return PLANTED[reason]

    made, refused, counts = written(tmp_path, ScriptedEngine(noisy, "noisy"))
    assert {r.id: r.reason for r in refused} == planted
    assert set(planted.values()) == set(PLANTED)
    assert len(made) == len(SCENES)
    writers = [e.writer for e in made]
    assert writers.count("template") == len(planted) == 60 - counts["written"]


@pytest.mark.parametrize("said", SILENT)
def test_a_character_who_says_nothing_is_refused(tmp_path, said):
    silent = ScriptedEngine(lambda m, s: script_of(("Tell me.", said)), "silent")
    made, refused, _ = written(tmp_path, silent)
    assert {r.reason for r in refused} <= {"empty_line", "ungrounded", "out_of_range"}
    assert {e.writer for e in made} == {"template"}


def test_thoughts_are_the_characters_own_and_everybody_takes_turns(tmp_path):
    def thinking(messages, sampling):
        table = json.loads(faithful(messages))
        table["rounds"] = [{**table["rounds"][0], "thought": "My clock. My tide."}] * 2
        return json.dumps(table)

    made, refused, _ = written(tmp_path, ScriptedEngine(thinking, "writer"))
    assert refused == []
    for experience in made:
        thinkers = {u.speaker for u in experience.utterances if u.action == "thinking"}
        assert thinkers == {TAMSIN.name}
        sides = [u.speaker == TAMSIN.name for u in experience.utterances]
        assert sides == [False, True, True] * 2


def test_a_script_that_was_cut_off_says_so(tmp_path):
    cut = ScriptedEngine(lambda m, s: Completion('{"rounds": [{"as', "length"), "cut")
    assert {r.reason for r in written(tmp_path, cut)[1]} == {"cut_off"}


def test_an_engine_that_refuses_or_dies(tmp_path):
    full = refusing(ScriptedEngine(lambda m, s: "", "full"), "context_full")
    assert {r.reason for r in written(tmp_path / "a", full)[1]} == {"context_full"}
    engine = ScriptedEngine(lambda messages, sampling: faithful(messages), "writer")
    with pytest.raises(WorldError, match="goes on"):
        written(tmp_path / "b", dying(engine, after=30))
    engine = ScriptedEngine(lambda messages, sampling: faithful(messages), "writer")
    assert len(written(tmp_path / "b", engine)[0]) == 60
    assert engine.calls <= 30


@pytest.mark.slow
def test_the_real_engine_leaves_no_row_unparsed(tmp_path):
    """A 135M model under a grammar: scripts and verdicts are all read; their content is weak."""
    from assistant.characters.judging import Verdict
    from assistant.characters.structured import Refused, read_answer
    from usersim.conversation import Message
    from usersim.engine import Sampling
    from usersim.engines import EngineSpec, open_engine

    engine = open_engine(EngineSpec(context_tokens=1024))
    unreadable = {"not_json", "wrong_fields", "out_of_range"}

    async def run():
        try:
            scenes = SCENES[::6]
            written = await write_experiences(scenes, TAMSIN, engine, tmp_path, 7)
            asked = [Message("user", "Judge this reply about a clockmaker: I make cheese.")]
            sampling = Sampling(max_tokens=120, temperature=0.8, schema=schema_of(Verdict))
            verdicts = await asyncio.gather(*(engine.complete(asked, sampling) for _ in range(8)))
            return written, verdicts
        finally:
            await engine.close()

    (made, refused, _), verdicts = asyncio.run(run())
    assert len(made) == 10
    assert not unreadable & {r.reason for r in refused}
    assert not [v for v in verdicts if isinstance(read_answer(v, Verdict), Refused)]
    assert json.loads(schema_of(Script))["required"] == ["rounds"]


def test_the_bar_of_grounding_tells_a_paragraph_from_the_others():
    """The figures beside GROUNDED, held loosely."""
    from assistant.characters.experiences import complete
    from assistant.characters.writing import GROUNDED

    ids = [p.id for p in TAMSIN.paragraphs]
    own, other = [], []
    for number, scene in enumerate(SCENES):
        said = complete(scene, TAMSIN, 7, 0.0).utterances
        text = " ".join(u.text for u in said if u.speaker == TAMSIN.name)
        own.append(grounded(text, TAMSIN, scene.paragraph))
        elsewhere = ids[(ids.index(scene.paragraph) + 1 + number % (len(ids) - 1)) % len(ids)]
        other.append(grounded(text, TAMSIN, elsewhere))
    assert min(own) > 2 * GROUNDED
    assert sum(share >= GROUNDED for share in other) <= 0.05 * len(other)
