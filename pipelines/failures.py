"""What a failure looks like to the person who typed the command: one message, one exit code."""

import errno
import os
import time
import traceback
from pathlib import Path

from usersim.errors import RealchatError

INTERRUPTED = 130  # what shells report for a process that Ctrl-C ended
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room: on the disk, for this user, in a file
DEBUG = "REALCHAT_DEBUG"  # set by --debug, inherited by the processes of stages


def explained(error: BaseException, logs: Path | None = None) -> tuple[str, int]:
    """The message and the exit code for whatever ended a command.

    A traceback is kept in `logs` when the error is not one of ours, and is part of the message
    only under --debug.
    """
    message, code = _told(error, logs)
    if os.environ.get(DEBUG) and not isinstance(error, KeyboardInterrupt):
        message = "".join(traceback.format_exception(error)) + message
    return message, code


def _told(error: BaseException, logs: Path | None) -> tuple[str, int]:
    if isinstance(error, RealchatError):
        return str(error.args[0] if error.args else type(error).__name__), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "stopped; the same command goes on from here", INTERRUPTED
    return _of_the_world(error) or _bug(error, logs), 1


def _of_the_world(error: BaseException) -> str | None:
    """The message for what the machine refuses; None for anything else."""
    if isinstance(error, MemoryError):
        return "out of memory; take smaller settings or a larger machine"
    if isinstance(error, BrokenPipeError):
        return "nobody reads the output any more"
    if isinstance(error, PermissionError):
        return f"not allowed to touch {error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"{error.filename} is on a disk that can only be read; name another folder"
    if isinstance(error, OSError) and error.errno in FULL:
        return "the disk is full; free some space and run the same command again"
    return None


def _bug(error: BaseException, logs: Path | None) -> str:
    where = _logged(error, logs)
    return f"a bug: {type(error).__name__}: {_first_line(error)} ({where})"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no message")


def _logged(error: BaseException, logs: Path | None) -> str:
    """Keep the traceback; say where it is."""
    if logs is None or not logs.is_dir():
        return "--debug shows the traceback"
    path = logs / f"bug-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    try:
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        return "--debug shows the traceback"
    return f"the traceback is in {path}"
