"""A job's verb as a program of its own, and how its process ends."""

import atexit
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import typer


def program(verb: Callable[..., None]) -> NoReturn:
    """Run the verb with the arguments of the command line, and end with its exit code."""
    try:
        typer.run(verb)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    leave(code)


def leave(code: int) -> NoReturn:
    """End the process: what Python registered is called, what C++ registered is not.

    The thread in which Ray 2.60 exports metrics outlives `ray.shutdown()`. To an agent that is gone
    by then it exports in vain, and says so through a logger that C++'s exit destroys: a job whose
    work was done ended in a segmentation fault.
    """
    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
