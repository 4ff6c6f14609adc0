import errno

import pytest

from pipelines.failures import DEBUG, INTERRUPTED, explained
from usersim.errors import EngineDead, InputError, WorldError


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (InputError("no such file x"), 2, "no such file x"),
        (InputError("reasoned", "a_reason"), 2, "reasoned"),
        (WorldError("no engine"), 1, "no engine"),
        (EngineDead("gone"), 1, "gone"),
        (KeyboardInterrupt(), INTERRUPTED, "goes on from here"),
        (MemoryError(), 1, "out of memory"),
        (OSError(errno.ENOSPC, "No space left"), 1, "the disk is full"),
        (OSError(errno.EROFS, "Read-only", "/x/.lock"), 1, "/x/.lock is on a disk that can only"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "/x: Permission denied"),
    ],
)
def test_what_ends_a_command_has_one_line_and_a_code(error, code, told, monkeypatch):
    monkeypatch.delenv(DEBUG, raising=False)
    message, exit_code = explained(error)
    assert exit_code == code
    assert told in message
    assert len(message.splitlines()) == 1


def test_a_bug_is_short_on_the_screen_and_whole_in_the_log(tmp_path, monkeypatch):
    monkeypatch.delenv(DEBUG, raising=False)
    try:
        {}["absent"]
    except KeyError as error:
        message, code = explained(error, tmp_path)
    assert code == 1
    assert len(message.splitlines()) == 1
    (log,) = tmp_path.iterdir()
    assert str(log) in message
    assert "KeyError: 'absent'" in log.read_text()
    assert "Traceback" in log.read_text()


def test_a_bug_without_a_log_says_how_to_see_it(tmp_path, monkeypatch):
    monkeypatch.delenv(DEBUG, raising=False)
    assert "--debug" in explained(ValueError("odd"), tmp_path / "absent")[0]
    assert "--debug" in explained(ValueError())[0]


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv(DEBUG, "1")
    assert "InputError" in explained(InputError("no such file"))[0]
