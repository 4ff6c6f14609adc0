"""A persona as a life: four aspects in, somebody to be trained, probed and interviewed out."""

import pytest
import yaml

from assistant.characters.interviews import InterviewSettings, planned
from assistant.characters.persona_lives import profile_of
from assistant.characters.profile import find_profile
from assistant.characters.protective import BOUNDARIES, boundary_questions
from assistant.characters.train import ExperienceSettings, make_experiences, own_header
from usersim.errors import InputError
from usersim.personas.factory import FactorySettings, make_personas
from usersim.personas.schema import write_personas

ASPECTS = {
    "career": "engraver of bells",
    "aspiration": "hear one of them across the sea",
    "traits": ["stubborn", "warm-hearted"],
    "skills": ["casting", "mental arithmetic"],
}
PEOPLE = make_personas(FactorySettings(number=20, seed=5)).personas


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(ASPECTS), encoding="utf-8")
    return path


def test_four_aspects_make_somebody_to_train(mine):
    profile = find_profile(mine)
    assert find_profile(str(mine)) == profile
    for words in ("engraver of bells", "across the sea", "stubborn and warm-hearted", "casting"):
        assert words in profile.text
    assert ", an engraver of bells." in own_header(profile)
    made, counts = make_experiences(profile, ExperienceSettings(scenes=40), 7)
    assert counts["scenes"]["covered"] == len(profile.paragraphs) == 4
    said = " ".join(u.text for e in made for u in e.utterances if u.speaker == profile.name)
    assert "By trade I am an engraver of bells." in said
    assert "{" not in said


@pytest.mark.parametrize("number", range(len(PEOPLE)))
def test_every_probe_sets_ones_own_against_somebody_elses(number):
    profile = profile_of(PEOPLE[number])
    assert len(profile.probes) >= 14
    known = {p.id for p in profile.paragraphs}
    for probe in profile.probes:
        assert probe.paragraph in known
        assert probe.true != probe.false
        assert probe.true not in profile.text  # in other words than what is learned
        assert abs(len(probe.true) - len(probe.false)) <= 0.7 * len(probe.true)


def test_who_lives_today_has_no_anachronisms():
    kinds = {q.boundary for q in boundary_questions(profile_of(PEOPLE[0]))}
    assert kinds == set(BOUNDARIES) - {"anachronism"}
    made, _ = make_experiences(profile_of(PEOPLE[0]), ExperienceSettings(scenes=30), 7)
    assert {e.kind for e in made} == {"life", *kinds}


def test_as_many_questions_as_the_ancestor_asks(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join(f"What is on shelf {n}?" for n in range(12)), encoding="utf-8")
    plan = planned(profile_of(PEOPLE[0]), InterviewSettings(questions=str(own), conversations=0))
    assert len({o.ask for o in plan}) >= 50


def test_one_of_a_file_is_named_by_number(tmp_path):
    path = tmp_path / "people.jsonl"
    write_personas(path, PEOPLE)
    assert find_profile(path).name == PEOPLE[0].name
    assert find_profile(f"{path}#7").name == PEOPLE[6].name
    with pytest.raises(InputError, match="holds 20 people"):
        find_profile(f"{path}#21")
    with pytest.raises(InputError, match="no profile"):
        find_profile(f"{tmp_path}/nobody.jsonl#2")
