import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from usersim.conversation import Rejection
from usersim.errors import InputError
from usersim.sources import ColumnMap, Source, SourceSettings

SAMPLE = Path(__file__).parents[1] / "data" / "sources" / "columns.jsonl"
MAP = ColumnMap(
    messages="dialog",
    role="speaker",
    content="said",
    user=("visitor", "guest"),
    assistant="bot",
    id="uid",
    person="who",
    license="terms",
)


def read(path, columns):
    return list(Source(SourceSettings(source=str(path), columns=columns)))


def test_a_described_layout():
    (draft,) = read(SAMPLE, MAP)
    assert [(m.role, m.content) for m in draft.messages] == [
        ("user", "where is the exit"),
        ("assistant", "Behind you."),
        ("user", "thx"),
    ]
    assert (draft.id, draft.persons, draft.license) == ("k1", ("u-3",), "cc0-1.0")


def test_texts_without_speakers_alternate(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"turns": ["hi", "hello", "bye"]}))
    (draft,) = read(path, ColumnMap(messages="turns", role=None))
    assert [m.role for m in draft.messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"messages": "talk"}, "unknown_shape", "no column 'talk' (ingest.columns.messages) in"),
        ({"user": "visitor"}, "unknown_role", "'guest' is none of visitor, bot, system"),
        ({"content": "text"}, "malformed_message", "a message has no 'text', but said, speaker"),
    ],
)
def test_a_map_that_does_not_fit_says_where(change, reason, detail):
    (found,) = read(SAMPLE, MAP.model_copy(update=change))
    assert isinstance(found, Rejection)
    assert found.reason == reason
    assert detail in found.detail


def test_an_optional_column_that_no_record_has_is_told():
    with pytest.raises(InputError, match=r"no record of .*columns.jsonl has account, licence"):
        read(SAMPLE, MAP.model_copy(update={"person": "account", "license": "licence"}))


@pytest.mark.parametrize("nobody", [None, "", float("nan")])
def test_an_empty_cell_names_no_person(tmp_path, nobody):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": ["hi", "hello"], "user_id": nobody}))
    mapped = ColumnMap(role=None, person="user_id")
    assert [draft.persons for draft in read(path, mapped)] == [()]
    path.write_text(json.dumps({"data": ["hi", "hello"], "user_id": nobody}))
    assert [draft.persons for draft in read(path, None)] == [()]


def test_one_name_for_two_roles_is_refused():
    with pytest.raises(ValidationError, match="speaker stands for two roles"):
        ColumnMap(user="speaker", assistant=("bot", "speaker"))


def test_a_map_and_a_layout_exclude_each_other():
    with pytest.raises(ValidationError, match="leave `format` at auto"):
        SourceSettings(format="sharegpt", columns=MAP)
