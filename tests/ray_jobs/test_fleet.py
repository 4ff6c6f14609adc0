"""Workers on a real local Ray cluster: what they make is what one machine makes, whoever dies."""

import os
from ast import literal_eval
from collections import Counter
from pathlib import Path

import pytest
from witness import Witness, asked, journaled, made_alone, published

from ray_jobs.fleet import Placement
from ray_jobs.generate import simulate_on_ray
from ray_jobs.worker import Simulation
from usersim.engines.scripted import dying, failing, talkative
from usersim.errors import DeterministicError, InputError, WorldError
from usersim.simulate import SimulateSettings, simulate

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

SETTINGS = SimulateSettings(conversations=64, shard_size=12, concurrency=16, retry_pause_s=0.0)
TWO = Placement(actors=2, cpus=0.5)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    seen = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # where the witness is
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=seen)
    yield
    ray.shutdown()


def of(run, **changed):
    """A simulation with witnesses for engines."""
    trace = run / "trace"
    trace.mkdir(parents=True, exist_ok=True)
    given = {"user": Witness(trace, "u", rounds=3), "assistant": Witness(trace, "a")} | changed
    return Simulation(SETTINGS, given["user"], given["assistant"], run, "recipe", 7)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one machine makes of the same plan."""
    return made_alone(SETTINGS, tmp_path_factory.mktemp("alone"))


def test_two_workers_make_what_one_machine_makes(tmp_path, alone):
    figures = simulate_on_ray(of(tmp_path), TWO)
    assert published(tmp_path) == alone  # ids, turns, order, files
    assert figures["conversations"] == len({c.id for c in alone}) == 64
    assert figures["tokens"]["assistant"] == sum(c.assistant_tokens for c in alone)
    requests = asked(tmp_path / "trace")
    assert len(requests) == 2  # both worked
    assert sum(map(len, requests.values())) == len(journaled(tmp_path))

    assert simulate_on_ray(of(tmp_path), TWO) == figures  # again: nothing is asked for
    assert asked(tmp_path / "trace") == requests


@pytest.mark.parametrize("actors", [1, 2])  # another in its place, or beside it, goes on
def test_a_killed_worker_costs_the_turns_in_flight(tmp_path, alone, actors):
    killer = Witness(tmp_path / "trace", "a", dies_at=60)
    simulate_on_ray(of(tmp_path, assistant=killer), Placement(actors, cpus=0.5))
    assert published(tmp_path) == alone

    pid, *lines = (tmp_path / "trace" / "died").read_text().splitlines()
    requests = asked(tmp_path / "trace")
    assert int(pid) in requests
    assert len(requests) >= 2
    seeds = Counter(seed for made in requests.values() for seed in made)
    in_flight = sum(seeds.values()) - len(journaled(tmp_path))
    assert 0 < in_flight <= SETTINGS.concurrency

    plan = of(tmp_path).books().agenda.plan
    finished = {literal_eval(line) for line in lines}
    assert len(finished) >= 60
    for conversation, position, attempt in finished:  # before the kill: not asked for again
        assert seeds[str(plan(conversation).turn_seed(position, attempt))] == 1


def test_sigterm_finishes_the_turns_in_flight_and_stops(tmp_path, alone):
    slow = Witness(tmp_path / "trace", "a", dies_at=5, stops=os.getpid(), turn_s=0.7)
    with pytest.raises(WorldError, match=r"stopped by SIGTERM(.|\n)*resumes"):
        simulate_on_ray(of(tmp_path, assistant=slow), TWO)
    kept = journaled(tmp_path)
    assert 0 < len(kept) < 6 * 64
    assert sum(map(len, asked(tmp_path / "trace").values())) == len(kept)  # none thrown away
    simulate_on_ray(of(tmp_path), TWO)
    assert published(tmp_path) == alone
    assert sum(map(len, asked(tmp_path / "trace").values())) == len(journaled(tmp_path))


def test_workers_that_never_live_stop_the_run_and_the_next_resumes(tmp_path, alone):
    dead = dying(talkative(model="a"), after=20)
    with pytest.raises(WorldError, match=r"workers are lost .*scripted: dead(.|\n)*resumes"):
        simulate_on_ray(of(tmp_path, assistant=dead), Placement(actors=1, cpus=0.5))
    kept = journaled(tmp_path)
    assert kept
    before = sum(map(len, asked(tmp_path / "trace").values()))
    simulate_on_ray(of(tmp_path), TWO)
    assert published(tmp_path) == alone
    after = sum(map(len, asked(tmp_path / "trace").values()))
    assert after - before == len(journaled(tmp_path) - kept)


def test_a_conversation_that_engines_die_of_ends_and_no_other(tmp_path, alone):
    plan = of(tmp_path).books().agenda.plan(5)
    mortal = Witness(tmp_path / "trace", "a", poison=plan.turn_seed(1, 0))
    figures = simulate_on_ray(of(tmp_path, assistant=mortal), TWO)
    assert figures["rejected_reasons"] == {"engine_died": 1}
    assert published(tmp_path) == [c for c in alone if c.id != plan.id]


def test_an_engine_that_lets_nobody_in_stops_the_run_and_spoils_nothing(tmp_path, alone):
    locked = failing(talkative(), DeterministicError("bad key", "not_authorized"), after=20)
    with pytest.raises(WorldError, match=r"^bad key; (.|\n)*resumes"):
        simulate_on_ray(of(tmp_path, assistant=locked), TWO)
    assert simulate_on_ray(of(tmp_path), TWO)["rejected"] == 0
    assert published(tmp_path) == alone


def test_a_folder_of_another_recipe_is_refused(tmp_path):
    simulate(SETTINGS, talkative(3, "u"), talkative(model="a"), tmp_path, "another", 7)
    with pytest.raises(InputError, match="belongs to another run"):
        simulate_on_ray(of(tmp_path), TWO)
