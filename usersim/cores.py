"""How many cores are free for a computation whose threads wait for each other.

Two threads on two quiet cores train 1.4 times as fast as one; beside other busy processes they wait
for whichever of them is not running, and are four times slower than one (docs/log.md).
"""

import os
import time
from pathlib import Path

LOOK_S = 0.5  # how long the machine is watched
STAT = Path("/proc/stat")
CPUINFO = Path("/proc/cpuinfo")


def free_cores() -> int:
    """Cores that nobody used during the last half second, at least one.

    `OMP_NUM_THREADS`, where it is set, is what the person wants. Where the system does not tell its
    load (not Linux), all cores count as free.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return own_cores()
    return max(1, round(own_cores() * idle_share()))


def has_tiles() -> bool:
    """Whether the CPU multiplies matrices by tiles (Intel AMX); False where nobody says."""
    try:
        return " amx_tile" in CPUINFO.read_text(encoding="utf-8")
    except OSError:
        return False


def own_cores() -> int:
    """Cores that this process may use at all, or as many threads as `OMP_NUM_THREADS` wants.

    For processes of one thread each: they meet seldom, a busy neighbour only takes its part.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    ) or 1


def idle_share() -> float:
    """The share of all cores' time in which nothing ran, from 0 to 1."""
    before = _times()
    time.sleep(LOOK_S)
    after = _times()
    if not before or not after:
        return 1.0
    total = sum(after) - sum(before)
    # /proc/stat, proc(5): user, nice, system, idle, iowait, irq, softirq, steal, ...
    idle = sum(after[3:5]) - sum(before[3:5])
    return idle / total if total else 1.0


def _times() -> list[int]:
    try:
        first = STAT.read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return []
    return [int(field) for field in first.split()[1:9]]
