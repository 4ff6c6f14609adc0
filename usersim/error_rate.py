"""When engines fail so many conversations that going on would only quarantine more."""

from collections import deque

from usersim.errors import EngineUseless
from usersim.journal import Ending
from usersim.plan import SimulateSettings

FEWEST = 20  # conversations that must have ended before their error rate says anything
# Of 10,000 conversations of which 5 % fail by chance, some 20 in a row nearly always (99 %) exceed
# the default limit of 20 %; some 200 in a row do in 1 % of the runs (300 runs drawn).
WINDOW = 200


class ErrorRate:
    """How many of the conversations that ended last ended in an engine's error.

    Only the last count, so that a long run that went well does not hide that nothing works now.
    """

    def __init__(self, settings: SimulateSettings) -> None:
        self._limit = settings.max_error_rate
        self._last: deque[bool] = deque(maxlen=max(WINDOW, settings.concurrency))
        self.errors = 0
        """All that there were."""

    def take(self, ending: Ending) -> None:
        """Count an ending. Raises EngineUseless when too many of the last ones were errors."""
        failed = ending.stop_reason == "error"
        self.errors += failed
        self._last.append(failed)
        ended, errors = len(self._last), sum(self._last)
        if failed and ended >= FEWEST and errors > self._limit * ended:
            raise EngineUseless(
                f"{errors} of the last {ended} conversations ended in an engine's error, the last:"
                f" {ending.detail}",
                failed=errors,
            )
