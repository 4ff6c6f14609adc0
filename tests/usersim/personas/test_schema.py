"""The persona record: what it refuses, how it is written down, and that prose keeps all of it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from usersim.errors import InputError
from usersim.personas.prose import SENTENCES, attributes, from_prose, missing, to_prose
from usersim.personas.schema import (
    GENDERS,
    PARTS,
    Language,
    Persona,
    PersonaDraft,
    Personal,
    Social,
    WritingStyle,
    draft_of,
    json_schema,
    read_personas,
    read_tables,
    write_personas,
)

text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(lambda t: t.split())
item = text.map(lambda t: t.replace(";", ",")).filter(lambda t: t.split())
items = st.lists(item, min_size=1, max_size=5, unique_by=lambda t: " ".join(t.split()).casefold())


def choice(field):
    return st.sampled_from(field.annotation.__args__)


styles = st.fixed_dictionaries(
    {name: choice(field) for name, field in WritingStyle.model_fields.items()}
)
personas = st.builds(
    Persona,
    career=text, aspiration=text, traits=items, skills=items,
    personal=st.builds(
        Personal, name=text, gender=st.sampled_from(GENDERS), age=st.integers(18, 99), origin=text,
        tone=text, personality=text, strengths=items, weaknesses=items, hobbies=items,
    ),
    social=st.builds(
        Social, family=text, relationships=text, living=text, community=text, education=text
    ),
    language=st.builds(
        Language, first=text, others=st.lists(item, max_size=3),
        english=choice(Language.model_fields["english"]),
    ),
    style=st.builds(lambda table: WritingStyle(**table), styles),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(personas)
def test_prose_keeps_every_attribute(persona):
    prose = to_prose(persona)
    assert from_prose(prose) == persona
    assert missing(persona, prose) == []


@settings(max_examples=25, deadline=None)
@given(personas)
def test_a_row_gives_the_same_person_back(persona):
    assert Persona.from_row(json.loads(json.dumps(persona.to_row()))) == persona


def test_prose_has_a_sentence_for_every_field():
    groups = {f"{part}.{name}" for part, model in PARTS.items() for name in model.model_fields}
    assert groups | {"career", "aspiration", "traits", "skills"} == set(SENTENCES)


def test_every_field_says_what_it_is_and_whether_it_is_required():
    schema = json_schema()
    tables = [schema, *schema["$defs"].values()]
    fields = [field for table in tables for field in table["properties"].values()]
    assert all(field.get("description") for field in fields)
    assert set(schema["required"]) == {
        "career", "aspiration", "traits", "skills", "personal", "social"
    }  # fmt: skip


def test_what_prose_lost_is_named(ada):
    prose = to_prose(ada).replace("Edinburgh", "London")
    assert missing(ada, prose) == ["social.living"]


def test_attributes_and_groups_can_be_left_out(ada):
    prose = to_prose(ada, leave_out=("career", "style"))
    assert "lighthouse" not in prose
    assert "emoji" not in prose
    assert "Ada Fairweather" in prose


def test_a_file_keeps_people_whatever_is_in_their_names(ada, tmp_path):
    odd = ada.model_copy(update={"aspiration": 'see "the sea", \\ and more'})
    write_personas(tmp_path / "p.jsonl", [ada, odd])
    assert read_personas(tmp_path / "p.jsonl") == [ada, odd]


def test_a_changed_person_may_not_keep_the_old_id(ada):
    with pytest.raises(InputError, match="was changed after its id"):
        Persona.from_row(ada.to_row() | {"career": "pilot"})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"traits": []}, "traits: Tuple should have at least 1 item"),
        ({"traits": ["calm", "Calm"]}, "must not say the same twice"),
        ({"skills": ["sewing; knots"]}, "write a list, not items with a semicolon"),
        ({"career": "  "}, "must say something"),
        ({"career": "x" * 201}, "at most 200 characters"),
        ({"carrer": "cook"}, "carrer: Extra inputs are not permitted"),
        ({"version": 2}, "version: Input should be 1"),
        ({"personal": {"nmae": "Ada"}}, "unknown key 'nmae'; known here: name, gender"),
    ],
)
def test_what_is_no_person_is_refused_with_its_place(change, problem):
    aspects = {"career": "cook", "aspiration": "rest", "traits": ["calm"], "skills": ["soup"]}
    with pytest.raises(InputError, match=problem):
        draft_of(aspects | change)


def test_the_four_aspects_alone_are_a_draft():
    draft = draft_of({"career": "cook", "aspiration": "rest", "traits": ["calm"], "skills": ["x"]})
    assert isinstance(draft, PersonaDraft)
    with pytest.raises(ValidationError):
        PersonaDraft.model_validate({"career": "cook"})


def test_attributes_come_in_the_order_of_the_prose(ada):
    assert list(attributes(ada)) == list(SENTENCES)


@pytest.mark.parametrize("content", ["- 3\n", "", "[]", "a: [\n"])
def test_a_file_without_tables_is_refused(content, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"p\.yaml"):
        read_tables(path)
