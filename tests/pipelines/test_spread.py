import os
import signal

import pytest

from pipelines.spread import ROWS_FOR_PROCESSES, Processes, here, in_turn
from usersim.errors import WorldError


def squared(number):
    return number * number


def killed(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_in_turn_is_lazy_and_in_order():
    begun = []
    results = in_turn(lambda n: begun.append(n) or n, [1, 2, 3])
    assert begun == []
    assert list(results) == [1, 2, 3] == begun


def test_little_work_stays_in_this_process():
    for tasks, rows in ((4, ROWS_FOR_PROCESSES - 1), (1, 10**9)):
        with here(tasks, rows) as spread:
            assert spread is in_turn


@pytest.mark.slow
def test_processes_give_results_in_the_tasks_order_and_tell_a_kill():
    with Processes(2) as spread:
        assert list(spread(squared, range(6))) == [0, 1, 4, 9, 16, 25]
        assert list(spread(squared, [7])) == [49]
    with Processes(1) as spread, pytest.raises(WorldError, match="the same command"):
        list(spread(killed, [1]))
