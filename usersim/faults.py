"""Fault points: places where the crash tests kill this process, and nothing else happens there.

`REALCHAT_FAULT=journal.commit:7` makes the process kill itself (SIGKILL, as the kernel would)
the seventh time it passes the point `journal.commit`. Without the variable a point costs next to
nothing.
"""

import os
import signal

_NAME, _, _COUNT = os.environ.get("REALCHAT_FAULT", "").partition(":")
_passed = 0


def fault_point(name: str) -> None:
    """Die here when the environment asks for it."""
    if name != _NAME:
        return
    global _passed  # noqa: PLW0603 - one counter for the process, as the environment is one
    _passed += 1
    if _passed >= int(_COUNT or 1):
        os.kill(os.getpid(), signal.SIGKILL)
