import bz2
import json
import lzma
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from usersim.conversation import Message, Rejection
from usersim.errors import InputError, WorldError
from usersim.sources import Draft, json_list, read_source, reading
from usersim.sources.columns import ColumnMap
from usersim.sources.reading import Source, SourceSettings

HELLO = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi. What can I do?"}]
PLAIN = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi there."}]


def read(path, **settings):
    return list(read_source(str(path), **settings))


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def lines(*records):
    return "\n".join(json.dumps(record) for record in records)


class TestShapes:
    def test_sharegpt_list(self, tmp_path):
        text = json.dumps([{"id": "a_0", "conversations": HELLO}], indent=2)
        (draft,) = read(written(tmp_path / "talk.json", text), license_name="CC0-1.0")
        assert draft == Draft(
            id="a_0",
            messages=(Message("user", "Hello"), Message("assistant", "Hi. What can I do?")),
            source="talk",
            license="CC0-1.0",
            scraped=True,
        )

    def test_messages_lines_name_their_records_and_keep_their_license(self, tmp_path):
        text = lines({"messages": PLAIN}, {"id": 7, "messages": PLAIN, "license": "MIT"})
        first, second = read(written(tmp_path / "talk.jsonl", text))
        assert re.fullmatch("talk-0-[0-9a-f]{8}", first.id)
        assert (first.license, first.scraped) == ("unstated", False)
        assert (second.id, second.license) == ("7", "MIT")

    def test_parquet(self, tmp_path):
        table = pa.Table.from_pylist([{"id": "x", "messages": PLAIN, "extra": 1}] * 3)
        pq.write_table(table, tmp_path / "talk.parquet")
        assert [d.messages[0].content for d in read(tmp_path / "talk.parquet")] == ["Hello"] * 3

    def test_a_folder_is_its_files_in_order(self, tmp_path):
        written(tmp_path / "b.JSONL", lines({"messages": PLAIN}))
        written(tmp_path / "a.json", json.dumps([{"conversations": HELLO}]))
        written(tmp_path / "notes.txt", "not data")
        assert [d.id[:4] for d in read(tmp_path)] == ["a-0-", "b-0-"]

    def test_records_without_an_id_are_called_alike_only_where_they_are(self, tmp_path):
        other = [{"role": "user", "content": "Another person"}]
        texts = {"a": PLAIN, "b": other, "c": PLAIN}
        found = {}
        for folder, messages in texts.items():
            (tmp_path / folder).mkdir()
            path = written(tmp_path / folder / "data.jsonl", lines({"messages": messages}))
            (found[folder],) = (d.id for d in read(path))
        assert found["a"] == found["c"] != found["b"]

    def test_a_forced_shape_reads_no_other(self, tmp_path):
        path = written(tmp_path / "talk.jsonl", lines({"conversations": HELLO}))
        (rejected,) = read(path, shape="messages")
        assert rejected.reason == "unknown_shape"

    @pytest.mark.parametrize("indent", [None, 2])
    def test_a_list_wrapped_in_data(self, tmp_path, indent):
        records = [{"id": name, "conversations": HELLO} for name in "ab"]
        path = written(tmp_path / "talk.json", json.dumps({"data": records}, indent=indent))
        assert [d.id for d in read(path)] == ["a", "b"]

    @pytest.mark.parametrize("times", [1, 3])
    def test_indented_objects(self, tmp_path, times):
        one = json.dumps({"messages": PLAIN}, indent=2)
        found = read(written(tmp_path / "talk.json", "\n".join([one] * times)))
        assert [d.id.rpartition("-")[0] for d in found] == [f"talk-{n}" for n in range(times)]

    def test_data_that_is_one_conversation_stays_one(self, tmp_path):
        columns = ColumnMap(messages="data")
        path = written(tmp_path / "talk.jsonl", lines({"data": PLAIN}, {"data": PLAIN}))
        found = list(Source(SourceSettings(source=str(path), columns=columns)))
        assert [len(d.messages) for d in found] == [2, 2]

    def test_what_is_no_json_tells_what_is_wanted(self, tmp_path):
        found = read(written(tmp_path / "talk.json", '{\n "messages": [\n'))
        assert [r.reason for r in found] == ["not_json", "not_json"]
        assert all("a record a line, or one JSON list" in r.detail for r in found)

    def test_a_file_name_that_is_not_utf8(self, tmp_path):
        written(tmp_path / "talk\udcff.jsonl", lines({"messages": PLAIN}))
        source = Source(SourceSettings(source=str(tmp_path)))
        (draft,) = source
        assert (draft.id.rpartition("-")[0], draft.source) == (r"talk\udcff-0", r"talk\udcff")
        assert [file.name for file in source.files] == [r"talk\udcff.jsonl"]

    def test_byte_order_mark_and_blank_lines(self, tmp_path):
        text = "\ufeff" + lines({"messages": PLAIN}) + "\n\n   \n" + lines({"messages": PLAIN})
        assert len(read(written(tmp_path / "talk.jsonl", text))) == 2


class TestBadRows:
    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("{broken", "not_json"),
            ("[1, 2", "not_json"),
            ('"just text"', "unknown_shape"),
            ('{"text": "no turns"}', "unknown_shape"),
            ('{"messages": []}', "empty_conversation"),
            ('{"messages": "Hello"}', "malformed_message"),
            ('{"messages": [7]}', "malformed_message"),
            ('{"messages": [{"role": "user"}]}', "malformed_message"),
            ('{"messages": [{"role": "user", "content": null}]}', "malformed_message"),
            ('{"messages": [{"role": ["user"], "content": "x"}]}', "malformed_message"),
            ('{"messages": [{"role": "human", "content": "x"}]}', "unknown_role"),
            ('{"conversations": [{"from": "tool", "value": "x"}]}', "unknown_role"),
            (r'{"messages": [{"role": "user", "content": "half \ud83d"}]}', "not_utf8"),
            (b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}', "not_utf8"),
            ("[" * 100_000, "not_json"),
        ],
    )
    def test_is_quarantined_with_its_reason_and_text(self, tmp_path, line, reason):
        good = lines({"messages": PLAIN}).encode()
        bad = line if isinstance(line, bytes) else line.encode()
        path = written(tmp_path / "talk.jsonl", good + b"\n" + bad + b"\n" + good)
        first, rejected, last = read(path)
        assert isinstance(first, Draft)
        assert isinstance(last, Draft)
        assert isinstance(rejected, Rejection)
        assert (rejected.reason, rejected.stage, rejected.id) == (reason, "read", "talk-1")
        assert rejected.record
        rejected.record.encode()  # whatever came in, the quarantine can be written

    @pytest.mark.parametrize("cut", [2, 5, 6, 20, 40, 60, 75])
    def test_a_list_cut_off_keeps_what_is_whole(self, tmp_path, cut):
        whole = json.dumps([{"id": f"r{n}_0", "conversations": HELLO} for n in range(5)])
        *kept, tail = read(written(tmp_path / "talk.json", whole[:-cut]))
        assert [d.id for d in kept] == ["r0_0", "r1_0", "r2_0", "r3_0"]
        assert (tail.id, tail.reason) == ("r4_0", "truncated_json")

    @pytest.mark.parametrize("block", [7, 4 << 20])
    @pytest.mark.parametrize(
        "broken",
        ['{"id" ! 1}', '{"id": "b", "conversations": [{"from": "human"', '{"id": "b}', "]"],
    )
    def test_a_broken_record_of_a_list_costs_only_itself(
        self, tmp_path, monkeypatch, block, broken
    ):
        monkeypatch.setattr(json_list, "_BLOCK", block)
        one, other = (json.dumps({"id": name, "conversations": HELLO}) for name in "ac")
        path = written(tmp_path / "talk.json", f"[{one}, {broken}, {other}, {broken}, {one}]")
        found = read(path)
        assert [f.id for f in found if isinstance(f, Draft)] == ["a", "c", "a"]
        lost = [f for f in found if isinstance(f, Rejection)]
        assert [r.record for r in lost] == [broken, broken]
        assert {r.id for r in lost} <= {"b", "talk-1", "talk-3"}

    def test_a_message_of_a_broken_record_is_no_record(self, tmp_path):
        record = '{"id": "a", "messages": [{"id": 1, "role": "user"}, {"id": 2, "role": "user"}]}'
        path = written(tmp_path / "talk.json", f"[{record}, {record.replace(':', '!', 1)}]")
        assert [r.reason for r in read(path)] == ["malformed_message", "not_json"]

    def test_a_broken_end_of_a_list_tells_how_much_was_not_read(self, tmp_path):
        record = json.dumps({"conversations": HELLO})
        kept, tail = read(written(tmp_path / "talk.json", f'[{record}, {{"id" ! 1}}, 7, "b"]'))
        assert isinstance(kept, Draft)
        assert (tail.id, tail.reason) == ("talk-1", "not_json")
        assert "no other record was found behind it (19 characters)" in tail.detail

    def test_the_search_for_a_next_record_is_bounded(self, tmp_path, monkeypatch):
        monkeypatch.setattr(json_list, "_MAX_SEARCH_CHARS", 10_000)
        path = written(tmp_path / "talk.json", "[" + '{"id": [' * 50_000)
        (tail,) = read(path)
        assert tail.record.startswith('{"id": [{')

    def test_a_broken_tail_is_named_by_its_id(self, tmp_path):
        whole = json.dumps([{"id": f"r{n}_0", "conversations": HELLO} for n in range(2)])
        tail = read(written(tmp_path / "talk.json", whole[:-30]))[-1]
        assert (tail.id, tail.reason) == ("r1_0", "truncated_json")
        assert tail.record.startswith('{"id": "r1_0"')

    def test_bytes_that_are_not_utf8_in_a_list_cost_one_record(self, tmp_path):
        whole = json.dumps([{"conversations": HELLO}, {"conversations": HELLO}]).encode()
        first, second = read(written(tmp_path / "talk.json", whole.replace(b"Hello", b"H\xff", 1)))
        assert first.reason == "not_utf8"
        assert isinstance(second, Draft)

    def test_long_lists_are_read_in_blocks(self, tmp_path, monkeypatch):
        monkeypatch.setattr(json_list, "_BLOCK", 7)
        records = [{"id": f"é{n}_0", "conversations": HELLO} for n in range(30)]
        path = written(tmp_path / "talk.json", json.dumps(records, ensure_ascii=False, indent=1))
        assert [d.id for d in read(path)] == [r["id"] for r in records]


class TestNothingToRead:
    def test_no_such_path(self, tmp_path):
        with pytest.raises(InputError, match="no source at"):
            read(tmp_path / "absent.jsonl")

    def test_a_path_the_system_refuses(self):
        with pytest.raises(InputError, match="cannot read"):
            read("x" * 5000)

    def test_a_folder_without_data(self, tmp_path):
        with pytest.raises(InputError, match=r"\.parquet.* file in"):
            read(tmp_path)

    @pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
    def test_an_empty_file(self, tmp_path, text):
        with pytest.raises(InputError, match="is empty"):
            read(written(tmp_path / "talk.jsonl", text))

    def test_a_broken_parquet_file(self, tmp_path):
        with pytest.raises(InputError, match="as Parquet"):
            read(written(tmp_path / "talk.parquet", b"PAR1 and nothing else"))

    def test_a_parquet_file_with_a_time_that_no_calendar_has(self, tmp_path):
        when = pa.array([2**62], pa.timestamp("us"))
        table = pa.Table.from_pylist([{"messages": PLAIN}]).append_column("at", when)
        pq.write_table(table, tmp_path / "talk.parquet")
        with pytest.raises(InputError, match="as Parquet after row 0"):
            read(tmp_path / "talk.parquet")

    @pytest.mark.parametrize(
        ("begin", "remedy"),
        [
            (b"\x28\xb5\x2f\xfd\x04", "packed by zstd: unpack it first"),
            (bz2.compress(b"{}"), "packed by bzip2"),
            (lzma.compress(b"{}"), "packed by xz"),
            (b"PK\x03\x04\x14", "a zip archive"),
            ("{}".encode("utf-16"), "UTF-16"),
        ],
    )
    def test_a_file_of_another_format_says_what_to_do(self, tmp_path, begin, remedy):
        written(tmp_path / "a.jsonl", lines({"messages": PLAIN}))
        written(tmp_path / "b.jsonl.zst", begin)
        with pytest.raises(InputError, match=f"b.jsonl.zst is {remedy}"):
            read(tmp_path)  # it is not passed over in silence

    def test_embedded_conversations_not_installed(self, monkeypatch):
        monkeypatch.setattr(reading, "find_spec", lambda _name: None)
        with pytest.raises(WorldError, match="make setup"):
            read("sharegpt")
