"""The metrics of `usersim.gauges` as Ray's own; its nodes serve them to Prometheus as `ray_...`."""

from collections import Counter
from typing import Any

from usersim.gauges import METERS, Snapshot


class Meters:
    """Hands each snapshot's values to Ray; counters are told what was added since the last one."""

    def __init__(self) -> None:
        from ray.util import metrics

        kinds: dict[str, Any] = {"counter": metrics.Counter, "gauge": metrics.Gauge}
        self._meters = {m.name: kinds[m.kind](m.name, m.about, m.labels) for m in METERS}
        self._counters = {m.name for m in METERS if m.kind == "counter"}
        self._told: Counter[tuple[str, ...]] = Counter()

    def show(self, now: Snapshot) -> None:
        """Tell where the simulation stands."""
        for name, labels, value in now.samples():
            if name not in self._counters:
                self._meters[name].set(value, labels)
                continue
            key = (name, *labels.values())
            added = value - self._told[key]
            if added > 0:
                self._meters[name].inc(added, labels)
                self._told[key] += int(added)
