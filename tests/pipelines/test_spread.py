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
    assert here(4, ROWS_FOR_PROCESSES - 1) is in_turn
    assert here(1, 10**9) is in_turn


@pytest.mark.slow
def test_processes_give_results_in_the_tasks_order_and_tell_a_kill():
    assert list(Processes(2)(squared, range(6))) == [0, 1, 4, 9, 16, 25]
    with pytest.raises(WorldError, match="the same command"):
        list(Processes(1)(killed, [1]))
