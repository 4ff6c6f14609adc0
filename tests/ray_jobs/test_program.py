"""A job's process ends with the code that its verb ended with, whatever C++ leaves behind."""

import subprocess
import sys

import pytest

BROKEN_AT_EXIT = """
import atexit, ctypes
import typer
from ray_jobs.program import program

libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc.abort, None, None)  # as a thread that outlives its logger
atexit.register(print, "cleaned up")

def verb(code: int) -> None:
    print("done", end="")
    raise typer.Exit(code)

program(verb)
"""


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_process_ends_with_the_verbs_code_and_what_it_printed(code):
    command = [sys.executable, "-c", BROKEN_AT_EXIT, str(code)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (code, "donecleaned up\n")


def test_a_wrong_argument_is_told_and_ends_with_2():
    command = [sys.executable, "-c", BROKEN_AT_EXIT, "many"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "Invalid value" in ended.stderr
