"""Files are whole or absent, whatever happens while they are written."""

from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from usersim import files
from usersim.conversation import Rejection, rejection_schema
from usersim.errors import InputError, WorldError
from usersim.files import fingerprint, read_conversations, read_json, whole_file, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def write_and_fail():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(WorldError, match="No space left"):
        write_and_fail()
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_while_writing_leaves_nothing(tmp_path):
    def write_and_stop():
        with whole_file(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert list(tmp_path.iterdir()) == []


def test_nan_is_no_figure(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "m.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not parquet", b"PAR1"])
def test_what_is_not_parquet_is_the_callers_mistake(tmp_path, content):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.parquet"):
        read_conversations(tmp_path / "x.parquet")


def test_a_fingerprint_does_not_depend_on_key_order():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_rows_are_written_a_group_at_a_time_and_the_footer_after_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 3)
    given, path = [], tmp_path / "x.parquet"

    def rejections():
        for number in range(8):
            given.append(number)
            yield Rejection(str(number), "stage", "reason", "", "{}")

    rows = (asdict(rejection) for rejection in rejections())
    files.write_rows(path, rejection_schema(), rows, lambda: {"rows": str(len(given))})
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert groups == [3, 3, 2]
    assert [row["id"] for row in files.read_rows(path)] == [str(n) for n in range(8)]
    assert (files.read_footer(path, "rows"), files.read_footer(path, "other")) == ("8", None)


def test_no_rows_make_an_empty_file_and_a_failed_footer_none(tmp_path):
    files.write_rejections(tmp_path / "empty.parquet", [])
    assert files.read_rows(tmp_path / "empty.parquet") == []

    def refused():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        files.write_rows(tmp_path / "x.parquet", rejection_schema(), [], refused)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.parquet"]


TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "hi"}, "no column id and no messages"),
        ({"messages": TALK}, "no column id$"),
        ({"id": 7, "messages": TALK}, "row 0: the id 7 is no text"),
        ({"id": "a", "messages": ["hi"]}, "row 0: a message needs"),
        ({"id": "a", "messages": TALK[1:]}, "row 0: turn 0: assistant speaks"),
    ],
)
def test_a_dataset_that_is_not_ours_is_refused_with_its_path(tmp_path, row, said):
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "theirs.parquet")
    with pytest.raises(InputError, match=f"theirs.parquet.* {said}"):
        read_conversations(tmp_path / "theirs.parquet")
