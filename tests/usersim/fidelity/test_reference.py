import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_talks import talks

from usersim.errors import InputError
from usersim.fidelity.persons import conversations_of
from usersim.fidelity.reference import read_reference, set_aside
from usersim.files import write_conversations


def write_jsonl(path, conversations, **more):
    lines = [
        {"messages": [{"role": m.role, "content": m.content} for m in c.messages], **more}
        for c in conversations
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return str(path)


def test_a_messages_file_nobody_has_seen(tmp_path):
    path = write_jsonl(tmp_path / "people.jsonl", talks("r", 12, 1))
    with (tmp_path / "people.jsonl").open("a") as file:
        file.write('\n{"messages": "no list"}\nnot json\n')
    found = read_reference(path)
    assert len(found.persons) == 12
    assert sum(found.rejected.values()) == 2
    assert found.to_dict()["user_turns"] == 36


def test_people_who_said_the_same_are_all_there(tmp_path):
    """An ingested corpus has no duplicates; people as they are repeat each other."""
    path = write_jsonl(tmp_path / "people.jsonl", talks("r", 3, 1) + talks("q", 3, 1))
    assert len(read_reference(path).persons) == 6


def test_a_split_of_a_run_is_read_as_it_is(tmp_path):
    people = talks("r", 9, 1)
    write_conversations(tmp_path / "test.parquet", people)
    found = read_reference(str(tmp_path / "test.parquet"), limit=5)
    assert len(found.persons) == 5
    assert {p.id for p in found.persons} < {c.id for c in people}


def same_rows(path, rows):
    """The rows as JSON lines and as somebody's Parquet."""
    lines, table = path / "people.jsonl", path / "people.parquet"
    lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), table)
    return read_reference(str(lines)), read_reference(str(table))


def test_somebodys_parquet_is_read_as_their_json_lines_are(tmp_path):
    rows = [
        {
            "id": number,
            "user_id": f"u{number // 2}",
            "messages": [
                {"role": m.role, "content": f"  {m.content}\u200b \n"} for m in c.messages
            ],
        }
        for number, c in enumerate(talks("r", 12, 1))
    ]
    lines, table = same_rows(tmp_path, rows)
    assert table == lines
    assert len(table.persons) == 6
    assert table.persons[0].conversations[0].stop_reason == "user_ended"


def test_a_split_of_ours_with_a_column_more_is_somebodys(tmp_path):
    path = tmp_path / "test.parquet"
    write_conversations(path, talks("r", 9, 1))
    ours = pq.read_table(path)
    pq.write_table(ours.append_column("user_id", [["a", "b", "c", "d", "e"] + ["f"] * 4]), path)
    assert len(read_reference(str(path)).persons) == 6


def test_who_taught_the_model_is_left_out(tmp_path):
    """By id, and by what they typed where another file gave them another id."""
    people = talks("r", 10, 1)
    path = write_jsonl(tmp_path / "people.jsonl", people)
    found = read_reference(path, training=people[:4])
    assert (len(found.persons), found.known_to_model) == (6, 4)
    with pytest.raises(InputError, match="10 were in the model's training"):
        read_reference(path, training=people)


def test_strangers_in_a_file_of_the_same_name_are_no_acquaintances(tmp_path):
    paths = []
    for folder, seed in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        paths.append(write_jsonl(tmp_path / folder / "data.jsonl", talks("r", 12, seed)))
    training = conversations_of(read_reference(paths[0]).persons)
    found = read_reference(paths[1], training)
    assert (len(found.persons), found.known_to_model) == (12, 0)
    with pytest.raises(InputError, match="12 were in the model's training"):
        read_reference(paths[0], training)


def test_who_is_chosen_on_is_not_reported_on():
    persons = [type("P", (), {"id": f"p{n}"})() for n in range(50)]
    dev, rest = set_aside(persons)
    assert (len(dev), len(rest)) == (5, 45)
    assert not {p.id for p in dev} & {p.id for p in rest}
