"""Errors, typed by what to do about them.

    RealchatError
    ├── InputError          the caller's: bad recipe, file, checkpoint   -> message, exit code 2
    ├── WorldError          the world's: disk full, no engine, no memory -> message, exit code 1
    └── EngineError         an engine could not complete one request
        ├── TransientError      try again, within bounds
        ├── DeterministicError  would fail again: quarantine with its reason
        ├── EngineDead          replace the engine, requeue its work
        └── EngineUseless       stop the run, resumably: others would be failed as well

Anything else that escapes is a bug and stops the run.
"""


class RealchatError(Exception):
    """An error with a message for the user: what, where and what to do."""

    exit_code = 1


class InputError(RealchatError):
    """The caller's mistake: a bad recipe, file, checkpoint or argument."""

    exit_code = 2


class WorldError(RealchatError):
    """The world's fault: a full disk, a missing device, a dead process."""


class EngineError(RealchatError):
    """An engine could not complete a request."""


class TransientError(EngineError):
    """May succeed when tried again: a timeout, a 429, a 5xx."""


class DeterministicError(EngineError):
    """Will fail again the same way; `reason` is a short word for counting."""

    def __init__(self, message: str, reason: str = "engine_refused") -> None:
        super().__init__(message)
        self.reason = reason


class EngineDead(EngineError):
    """The engine is gone; its conversations must go to another."""


class EngineUseless(EngineError):
    """No conversation's fault: an engine lets nobody in, or fails too many of them."""

    def __init__(self, message: str, failed: int = 0) -> None:
        super().__init__(message)
        self.failed = failed
        """Conversations that have ended by it."""
