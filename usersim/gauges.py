"""What a simulation tells those who operate it: the names of its metrics, and a Prometheus page.

One list, whoever shows it: `realchat simulate --metrics-port` serves it from this process, a Ray
job hands it to Ray's own metrics. Values are read when somebody asks, so nothing here costs time
while nobody looks.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from usersim.errors import InputError, WorldError

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

PORT = "REALCHAT_METRICS_PORT"
"""Environment variable that holds the port; unset: nothing is served."""
LOOPBACK = "127.0.0.1"  # the page is for a scraper on this machine; it asks nobody for a password


@dataclass(frozen=True, slots=True)
class Meter:
    """One metric: its name without the ending `_total` that Prometheus gives counters."""

    name: str
    kind: Literal["counter", "gauge"]
    about: str
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """The name on a Prometheus page."""
        return self.name + ("_total" if self.kind == "counter" else "")


METERS = (
    Meter("realchat_conversations_planned", "gauge", "Conversations that the run shall have."),
    Meter("realchat_conversations_ended", "gauge", "Conversations that have ended, in all."),
    Meter("realchat_failures", "counter", "Conversations of this session ended by an error."),
    Meter("realchat_tokens", "counter", "Tokens written in this session.", ("role", "worker")),
    Meter("realchat_requests_in_flight", "gauge", "Completions under way.", ("worker",)),
    Meter("realchat_transient_retries", "counter", "Requests tried again."),
    Meter("realchat_seconds_left", "gauge", "Until all have ended, at the present rate."),
    Meter("realchat_workers", "gauge", "Workers whose engines are open."),
    Meter("realchat_workers_lost", "counter", "Workers that ended before their work did."),
)


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What one worker does."""

    tokens: Mapping[str, int]
    """Written so far, by role."""
    in_flight: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a simulation stands."""

    planned: int
    ended: int
    failures: int = 0
    transient_retries: int = 0
    seconds_left: float | None = None
    """None when it cannot be told yet; then the metric has no value."""
    lost: int = 0
    workers: Mapping[str, WorkerState] = field(default_factory=dict)
    """By name: those that are there."""
    gone: Mapping[str, WorkerState] = field(default_factory=dict)
    """Workers of this session that are not there any more; their tokens count."""

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """(name, labels, value) of every metric that has a value."""
        yield "realchat_conversations_planned", {}, self.planned
        yield "realchat_conversations_ended", {}, self.ended
        yield "realchat_failures", {}, self.failures
        yield "realchat_transient_retries", {}, self.transient_retries
        yield "realchat_workers", {}, len(self.workers)
        yield "realchat_workers_lost", {}, self.lost
        if self.seconds_left is not None:
            yield "realchat_seconds_left", {}, self.seconds_left
        for name, worker in {**self.gone, **self.workers}.items():
            for role in ("user", "assistant"):
                labels = {"role": role, "worker": name}
                yield "realchat_tokens", labels, worker.tokens.get(role, 0)
        for name, worker in self.workers.items():
            yield "realchat_requests_in_flight", {"worker": name}, worker.in_flight


@contextmanager
def exposed(read: Callable[[], Snapshot]) -> Iterator[None]:
    """Serve `read()` at http://127.0.0.1:PORT/metrics while the block runs, if a port was named.

    Raises InputError for what is no port, WorldError when it cannot be had.
    """
    wanted = os.environ.get(PORT, "")
    if not wanted:
        yield
        return
    if not wanted.isdecimal() or not 0 < int(wanted) < 65536:
        raise InputError(f"{wanted!r} is no port for metrics: give a number from 1 to 65535")
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(_Collector(read))
    try:
        server, thread = start_http_server(int(wanted), addr=LOOPBACK, registry=registry)
    except OSError as error:
        raise WorldError(
            f"port {wanted} of this machine cannot serve metrics ({error.strerror or error}):"
            " name another, or leave --metrics-port out"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector:
    """Reads the simulation when it is scraped."""

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def describe(self) -> "list[Family]":
        """Nothing beforehand: registering must not read a simulation that has not begun."""
        return []

    def collect(self) -> "Iterator[Family]":
        """Every metric, those without a value too, so that a board can name it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
        families = {m.name: kinds[m.kind](m.name, m.about, labels=m.labels) for m in METERS}
        labels = {m.name: m.labels for m in METERS}
        for name, given, value in self._read().samples():
            families[name].add_metric([given[label] for label in labels[name]], value)
        yield from families.values()
