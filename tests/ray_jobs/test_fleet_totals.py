"""What the driver adds up of its workers' reports: no Ray."""

import asyncio
import logging
from types import SimpleNamespace

from ray_jobs import fleet
from ray_jobs.fleet import Fleet, Placement, Totals
from ray_jobs.worker import Report
from usersim.simulate import SimulateSettings


def test_a_lost_worker_has_nothing_in_flight_and_its_time_counts():
    totals = Totals()
    totals.take("worker-0.1", Report(in_flight=16, seconds=5.0))
    totals.gone("worker-0.1")
    totals.take("worker-0.2", Report(in_flight=16, seconds=2.0))
    pace = totals.pace()
    assert (pace.peak_in_flight, pace.worker_seconds) == (16, 7.0)


def test_the_pace_of_a_worker_that_came_late_is_since_it_came(monkeypatch, caplog):
    monkeypatch.setattr(fleet, "Meters", lambda: None)
    simulation = SimpleNamespace(settings=SimulateSettings())
    late = Fleet(simulation, Placement(1), SimpleNamespace(left={}), bar=None)
    late._began -= 7200

    async def fed(place, name, actor):
        late._take(name, Report(tokens={"user": 100, "assistant": 100}))
        late._log_workers()

    async def joined():
        late._leases = SimpleNamespace(join=lambda: None, retire=lambda: None)
        await late._at_work(0, "worker-0.1", None)

    monkeypatch.setattr(late, "_feed_and_watch", fed)
    with caplog.at_level(logging.INFO, logger="ray_jobs"):
        asyncio.run(joined())
    assert "tokens/s" in caplog.text
    assert " 0 user + 0 assistant" not in caplog.text
