"""Presidio beside the forms: the real library, with patterns alone and with a named model."""

import builtins

import pytest

from pipelines.filters import FilterSettings
from pipelines.mending import mended
from usersim.conversation import Conversation, Message
from usersim.errors import InputError, WorldError
from usersim.personal_data import PLACEHOLDER, find, mask
from usersim.presidio_finder import KINDS, PresidioFinder, PresidioSettings, presidio_finder

TOLD = "Mail mara.quill@gardenpost.se, or call +44 20 7183 8750; card 4556 7375 8689 9855."
NOBODYS = "See git@example.com, 4111 1111 1111 1111, 192.168.0.1, <EMAIL_ADDRESS> and NAME_1."


def test_without_the_extra_the_message_says_how_to_install_it(monkeypatch):
    there = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("presidio"):
            raise ImportError(name)
        return there(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(WorldError, match=r"pip install 'realchat\[pii\]'"):
        PresidioFinder(PresidioSettings())


@pytest.fixture(scope="module")
def patterns():
    pytest.importorskip("presidio_analyzer")
    return PresidioFinder(PresidioSettings())


@pytest.mark.slow
def test_forms_are_masked_as_by_the_light_finder(patterns):
    assert mask(TOLD, patterns.find(TOLD)) == mask(TOLD, find(TOLD))
    assert patterns.find(NOBODYS) == []


@pytest.mark.slow
def test_presidio_finds_forms_that_the_light_finder_does_not_look_for(patterns):
    text = "call me at 0049 171 5551234 or 212 555 4240 tonight"
    masked = mask(text, patterns.find(text))
    assert find(text) == []
    assert "[PHONE]" in masked
    assert PLACEHOLDER.search(masked)
    assert all(PLACEHOLDER.search(f"[{kind.upper()}]") for kind in (*KINDS.values(), "redacted"))


@pytest.mark.slow
def test_a_named_model_finds_names_in_curation(tmp_path):
    """A model that knows one name stands for a real one: what is tested is the way through."""
    pytest.importorskip("presidio_analyzer")
    import spacy

    pipeline = spacy.blank("en")
    rules = pipeline.add_pipe("entity_ruler")
    rules.add_patterns([{"label": "PERSON", "pattern": "Mara Quill"}])
    pipeline.to_disk(tmp_path / "names")
    filters = FilterSettings(
        personal_data_finder="presidio", presidio={"model": str(tmp_path / "names")}
    )
    talk = Conversation(
        id="a",
        source="s",
        messages=(
            Message("user", "I am Mara Quill, NAME_1's neighbour"),
            Message("assistant", "Hello Mara Quill, write to mara@gardenpost.se"),
        ),
    )
    kept, changes = mended(talk, filters)
    assert [m.content for m in kept.turns] == [
        "I am [NAME], NAME_1's neighbour",
        "Hello [NAME], write to [EMAIL]",
    ]
    assert changes == {"name": 2, "email": 1}
    assert presidio_finder(filters.presidio) is presidio_finder(filters.presidio)


@pytest.mark.slow
def test_a_model_or_an_entity_that_is_not_there_is_told():
    pytest.importorskip("presidio_analyzer")
    with pytest.raises(InputError, match="spacy download"):
        PresidioFinder(PresidioSettings(model="no_such_model"))
    with pytest.raises(InputError, match="SHOE_SIZE"):
        PresidioFinder(PresidioSettings(entities=("SHOE_SIZE",)))
