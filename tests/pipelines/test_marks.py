"""What a person thinks of a conversation is kept, taken back, and never half written."""

import threading

import pytest

from pipelines.marks import read_marks, set_mark
from usersim.errors import InputError


def test_a_mark_is_kept_changed_and_taken_back(tmp_path):
    set_mark(tmp_path, "a", "bad", "  says\nnothing ")
    set_mark(tmp_path, "b", "good")
    assert {k: (m.mark, m.why) for k, m in read_marks(tmp_path).items()} == {
        "a": ("bad", "says nothing"),
        "b": ("good", ""),
    }
    set_mark(tmp_path, "a", "good")
    set_mark(tmp_path, "b", "")
    assert {k: m.mark for k, m in read_marks(tmp_path).items()} == {"a": "good"}


def test_two_writers_lose_nothing(tmp_path):
    def write(side: str) -> None:
        for number in range(20):
            set_mark(tmp_path, f"{side}{number}", "bad")

    threads = [threading.Thread(target=write, args=(side,)) for side in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_marks(tmp_path)) == 40


def test_an_unknown_mark_is_refused(tmp_path):
    with pytest.raises(InputError, match="good, bad"):
        set_mark(tmp_path, "a", "splendid")
    assert read_marks(tmp_path) == {}


@pytest.mark.parametrize("text", ["[]", '{"a": "bad"}', '{"a": {"mark": "so so"}}', "{"])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "marks.json").write_text(text)
    with pytest.raises(InputError):
        read_marks(tmp_path)
