"""What operators see: a page scraped in the middle of a run; a board asks for no more."""

import asyncio
import json
import re
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from usersim.engines import EngineSpec
from usersim.engines.scripted import HeldEngine, talkative
from usersim.errors import InputError, WorldError
from usersim.gauges import METERS, PORT, Snapshot, WorkerState, exposed
from usersim.simulate import SimulateSettings, simulate, simulate_async

BOARD = Path(__file__).parents[2] / "docs" / "grafana" / "realchat.json"


@pytest.fixture
def port(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    monkeypatch.setenv(PORT, str(number))
    return number


def scraped(port):
    """Sample values by name and labels, and the types of all metrics, with or without a value."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    page = opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    families = list(text_string_to_metric_families(page))
    samples = {
        (s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples
    }
    return samples, {f.name: f.type for f in families}


def test_a_run_can_be_watched_while_it_runs(tmp_path, port):
    settings = SimulateSettings(conversations=20, concurrency=6, shard_size=10)

    async def scene():
        released = asyncio.Event()
        held = HeldEngine(talkative(model="a"), released)
        run = asyncio.create_task(
            simulate_async(settings, talkative(3, "u"), held, tmp_path, "recipe", 7)
        )
        while held.waiting < 6:
            await asyncio.sleep(0)
        page = await asyncio.to_thread(scraped, port)
        released.set()
        return page, await run

    (samples, kinds), figures = asyncio.run(scene())
    assert figures["conversations"] == 20
    assert samples["realchat_conversations_planned", ()] == 20
    assert samples["realchat_conversations_ended", ()] == 0
    assert samples["realchat_requests_in_flight", (("worker", "local"),)] == 6
    assert samples["realchat_workers", ()] == 1
    spoken = samples["realchat_tokens_total", (("role", "user"), ("worker", "local"))]
    assert spoken >= 6 * 9  # six openers of ten words
    assert samples["realchat_tokens_total", (("role", "assistant"), ("worker", "local"))] == 0
    assert kinds == {meter.name: meter.kind for meter in METERS}
    with pytest.raises(OSError, match="refused"):  # and with the run the page is gone
        scraped(port)


def test_a_taken_port_is_told_before_engines_open(tmp_path, port, monkeypatch):
    monkeypatch.setattr("usersim.simulate.open_engine", lambda spec: pytest.fail("opened"))
    spec = EngineSpec(kind="scripted", model="talkative")
    settings = SimulateSettings(conversations=2)
    taken = pytest.raises(WorldError, match="cannot serve metrics")
    with exposed(lambda: Snapshot(1, 0)), taken:
        simulate(settings, spec, spec, tmp_path, "recipe", 7)


def test_while_engines_open_the_page_says_that_nobody_works(tmp_path, port, monkeypatch):
    pages = []

    def opened(spec):
        pages.append(scraped(port)[0])
        return talkative(2)

    monkeypatch.setattr("usersim.simulate.open_engine", opened)
    spec = EngineSpec(kind="scripted", model="talkative")
    simulate(SimulateSettings(conversations=2), spec, spec, tmp_path, "recipe", 7)
    assert [page["realchat_workers", ()] for page in pages] == [0, 0]
    assert pages[0]["realchat_conversations_planned", ()] == 2


def test_without_a_port_nothing_is_served(monkeypatch):
    monkeypatch.delenv(PORT, raising=False)
    with exposed(lambda: pytest.fail("nobody asked")):
        pass


def test_ports_that_cannot_be(port, monkeypatch):
    second = exposed(lambda: Snapshot(1, 0))
    taken = pytest.raises(WorldError, match="cannot serve metrics")
    with exposed(lambda: Snapshot(1, 0)), taken, second:
        pass
    for wrong in ("a", "0", "70000", "-1"):
        monkeypatch.setenv(PORT, wrong)
        with pytest.raises(InputError, match="no port"), exposed(lambda: Snapshot(1, 0)):
            pass


def test_tokens_of_workers_that_are_gone_still_count():
    now = Snapshot(
        9, 1, lost=1,
        workers={"b": WorkerState({"user": 2}, 1)}, gone={"a": WorkerState({"user": 5}, 3)},
    )  # fmt: skip
    samples = list(now.samples())
    tokens = {labels["worker"]: v for n, labels, v in samples if labels.get("role") == "user"}
    assert tokens == {"a": 5, "b": 2}
    assert [v for n, _, v in samples if n == "realchat_requests_in_flight"] == [1]
    assert {n: v for n, _, v in samples}["realchat_workers"] == 1


def queried():
    """Every metric that the board's panels name."""
    board = json.loads(BOARD.read_text())
    expressions = [t["expr"] for panel in board["panels"] for t in panel.get("targets", [])]
    assert len(expressions) >= 6
    return {name for e in expressions for name in re.findall(r"realchat_\w+", e)}


def test_every_metric_of_the_board_exists_and_every_metric_is_on_it(port):
    with exposed(lambda: Snapshot(1, 0)):
        _, kinds = scraped(port)
    served = {m.exposed for m in METERS if m.name in kinds}
    assert queried() == served
