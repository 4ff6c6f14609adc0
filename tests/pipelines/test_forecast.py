"""A forecast against runs that took place, and against sums done by hand."""

import json
import math
import random
import shutil
import statistics
from pathlib import Path

import pytest
from scripted_run import held
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.forecast import Wanted, amount, draw, forecast, rates_of, worker_of
from pipelines.forecast_model import hold
from pipelines.forecast_rates import DEMO, Habits, Manner, Seen, _habits, _manner, parameters_of
from pipelines.recipe import Recipe
from usersim.errors import InputError
from usersim.journal import Attempt, Ending
from usersim.outcome import Record

# The demo on two cores of an Intel Xeon with AMX, as its metrics.json has it.
MEASURED = {"user": 13_808, "assistant": 61_417, "refused": 18_119, "prompt": 288_164}
SHIPPED = Path("demo")  # the shipped recipe
MEASURED_SECONDS, MEASURED_ROUNDS = 260.5, 2.745


@pytest.fixture(scope="module")
def demo():
    return Recipe.load(SHIPPED)


def planned(recipe, conversations=216, **asked):
    wanted = Wanted(conversations, **asked)
    return forecast(recipe, wanted, rates_of(recipe, wanted))


def test_the_demo_comes_out_as_it_was_measured(demo, monkeypatch):
    monkeypatch.setattr("pipelines.forecast.cores", lambda: 2)
    made = planned(demo)
    assert made.rounds_mean == pytest.approx(MEASURED_ROUNDS, rel=0.05)
    for name, tokens in MEASURED.items():
        assert made.tokens[name] == pytest.approx(tokens, rel=0.12), name
    talking = 3600 * (made.hours - made.start_hours)
    assert talking == pytest.approx(MEASURED_SECONDS, rel=0.25)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return held(tmp_path_factory.mktemp("runs") / "seen", conversations=60)


def test_a_finished_run_tells_how_its_roles_talk(run):
    seen, figures = Seen.of(run.root), run.metrics()["simulate"]
    assert seen.seconds == figures["seconds"]
    assert (
        sum(s.tokens for t in seen.talks for s in t if s.role == "user" and not s.refused)
        == (figures["tokens"]["user"])
    )
    assert seen.habits.rounds == {3: 1.0}
    assert seen.habits.user.refused == 0
    assert seen.bytes.journal > seen.bytes.conversations > 0


def test_by_its_own_rates_a_run_takes_the_time_it_took(run):
    recipe = Recipe.load(run.recipe_file)
    wanted = Wanted(conversations=60)
    own = rates_of(recipe, wanted, run.root)
    figures = run.metrics()["simulate"]
    made = forecast(recipe, wanted, own)
    for role in ("user", "assistant"):
        assert made.tokens[role] == pytest.approx(figures["tokens"][role], rel=0.15)
    assert any("seen" in source for source in made.sources)
    talking = 3600 * (made.hours - made.start_hours)  # of scripts, which stand for endpoints
    assert talking == pytest.approx(figures["seconds"], rel=0.15)


@pytest.fixture
def changed(run, tmp_path):
    """A copy of the run of which something else is told."""

    def change(recipe=None, **figures):
        copy = tmp_path / "seen"
        shutil.copytree(run.root, copy)
        metrics = json.loads((copy / "metrics.json").read_text())
        metrics["simulate"] |= figures
        (copy / "metrics.json").write_text(json.dumps(metrics))
        if recipe:
            (copy / "recipe.yaml").write_text(recipe.to_yaml())
        return copy

    return change


def test_seconds_that_many_workers_had_together_are_not_one_worker_s(run, changed):
    recipe, one = Recipe.load(run.recipe_file), run.metrics()["simulate"]["seconds"]
    own = rates_of(recipe, Wanted(60), changed(seconds=one, worker_seconds=8 * one))
    made = forecast(recipe, Wanted(60), own)
    assert 3600 * (made.hours - made.start_hours) == pytest.approx(8 * one, rel=0.15)


def test_a_run_that_an_older_version_held_is_one_worker_s(run, changed):
    assert Seen.of(changed(worker_seconds=0.0)).seconds == Seen.of(run.root).seconds


def test_a_run_with_other_models_tells_how_slow_the_machine_is(demo, run, changed):
    larger = Recipe.load(SHIPPED, [f"models.{m}=x-1350M" for m in ("user", "assistant")])
    seen = changed(demo)
    small, large = (
        rates_of(r, Wanted(60, gpus=0), seen).speeds["user"].step_s(1) for r in (demo, larger)
    )
    assert large == pytest.approx(10 * small)


def test_a_finished_run_stands_in_for_the_size_of_its_models(changed):
    recipe = Recipe.load(SHIPPED, ["models.assistant=somebody/enormous"])
    seen = changed(recipe)
    planned_by_it = forecast(recipe, Wanted(60), rates_of(recipe, Wanted(60), seen))
    talking = 3600 * (planned_by_it.hours - planned_by_it.start_hours)
    assert talking == pytest.approx(Seen.of(seen).seconds, rel=0.15)
    other = Recipe.load(SHIPPED, ["models.assistant=somebody/huge"])
    with pytest.raises(InputError, match="how large is"):
        rates_of(other, Wanted(60), seen)


def test_a_run_whose_conversations_were_all_rejected_tells_nothing(tmp_path):
    turns = [Attempt(0, 0, 0, "user", "empty", "", "stop", 5, 9, 0)]
    with pytest.raises(InputError, match="no round to measure"):
        _habits([Record(0, turns, Ending(0, "bad_turn", "empty"))], "they")


def test_few_conversations_on_many_gpus_are_those_of_few_gpus(demo):
    many, one = (planned(demo, 500, gpus=n) for n in (250, 1))
    assert many.tokens == one.tokens
    assert many.rounds_mean == one.rounds_mean
    assert planned(demo, 1, gpus=64).hours > 0


def test_habits_are_found_again_in_what_they_make():
    luck = random.Random(3)
    for median, sigma, limit in ((16, 0.9, 96), (110, 0.8, 160), (40, 0.5, 10_000)):
        lengths = [
            min(limit, max(1, round(luck.lognormvariate(math.log(median), sigma))))
            for _ in range(4000)
        ]
        made = [Attempt(0, 0, 0, "user", "", "x", "stop", 50, n, 10) for n in lengths]
        found = _manner(made, heard=15.0)
        assert found.median == pytest.approx(median, rel=0.08)
        assert found.mean(limit) == pytest.approx(statistics.fmean(lengths), rel=0.08)
        assert found.overhead == pytest.approx(25.0)


def test_limits_of_the_recipe_hold(demo):
    recipe = Recipe.load(SHIPPED, ["simulate.max_rounds=2", "simulate.user_sampling.max_tokens=20"])
    talks = draw(recipe, DEMO, 500)
    assert max(s.tokens for t in talks for s in t if s.role == "user") == 20
    assert max(sum(s.role == "assistant" and not s.refused for s in t) for t in talks) == 2
    assert talks == draw(recipe, DEMO, 500)


def rounds_of(*overrides):
    talks = draw(Recipe.load(SHIPPED, list(overrides)), DEMO, 4000)
    return [sum(s.role == "assistant" and not s.refused for s in t) for t in talks]


def test_candidates_are_written_and_one_of_them_is_heard():
    talks = {
        n: draw(Recipe.load(SHIPPED, [f"simulate.candidates={n}"]), DEMO, 2000) for n in (1, 4)
    }
    turns, stand = (
        {
            n: sum(s.role == "user" and s.refused in kinds for talk in each for s in talk)
            for n, each in talks.items()
        }
        for kinds in ((True, False), (False,))
    )
    assert stand[4] == pytest.approx(stand[1], rel=0.05)
    # Whoever is refused, 17 in 100, is refused once more often or less; leaving is asked for once.
    assert turns[4] - turns[1] == pytest.approx(3 * stand[1], rel=0.2)


def test_what_learning_a_likeness_takes_stands_beside_the_forecast():
    chosen = "simulate.candidates=8"
    made = planned(Recipe.load(SHIPPED, [chosen, "likeness.conversations=200"]))
    more = planned(Recipe.load(SHIPPED, [chosen, "likeness.conversations=800"]))
    assert (made.learning["conversations"], more.learning["conversations"]) == (200, 800)
    drawing = [m.learning["hours"] - m.start_hours for m in (made, more)]
    assert drawing[1] == pytest.approx(4 * drawing[0], rel=0.2)
    # Each turn of the run's own conversations is drawn eight times, of the rehearsal's four times.
    half = planned(Recipe.load(SHIPPED, ["simulate.candidates=4"]))
    spent = sum(half.tokens[name] for name in ("user", "assistant", "refused"))
    assert more.learning["tokens"] == pytest.approx(spent * 800 / half.conversations, rel=0.1)
    told = plan(chosen, "likeness.conversations=200").output
    assert "besides  learn-likeness, not counted: 200 conversations, " in told
    assert " refused or passed over; prompts " in told
    assert planned(Recipe.load(SHIPPED)).learning == {}
    assert "besides  people, training, curation" in plan().output


def test_nobody_leaves_before_the_recipe_lets_them():
    asked = rounds_of("simulate.min_rounds=4", "simulate.max_rounds=6")
    assert set(asked) == {4, 5, 6}
    unasked = rounds_of("simulate.max_rounds=4")
    for n, share in DEMO.rounds.items():
        assert unasked.count(n) / len(unasked) == pytest.approx(share, abs=0.02)
    longer = rounds_of("simulate.max_rounds=8")  # beyond what was seen they go on as before
    assert max(longer) == 8
    assert longer.count(1) / len(longer) == pytest.approx(DEMO.rounds[1], abs=0.02)


def test_the_shipped_role_play_has_the_ancestors_size():
    done = plan("--recipe", "simschat", "--json")
    table = json.loads(done.output)
    assert table["conversations"] == 1360
    assert 13_000 < 2 * table["rounds_mean"] * table["conversations"] < 15_000


@pytest.fixture
def small_sample(monkeypatch):
    monkeypatch.setattr("pipelines.forecast.SAMPLE", 500)


def test_time_goes_with_the_work_and_against_the_workers(demo, small_sample):
    hours = {
        (n, g): planned(demo, n, gpus=g).hours for n, g in ((10**6, 8), (2 * 10**6, 8), (10**6, 64))
    }
    start = planned(demo, 10**6, gpus=8).start_hours
    one = hours[10**6, 8] - start
    assert hours[2 * 10**6, 8] - start == pytest.approx(2 * one, rel=0.01)
    assert hours[10**6, 64] - start == pytest.approx(one / 8, rel=0.02)
    made = planned(demo, 10**6, gpus=8, gpu_hour=2.0)
    assert made.gpu_hours == pytest.approx(8 * made.hours)
    assert made.money == {"as given": pytest.approx(2 * made.gpu_hours)}
    assert made.bytes["journal"] > made.bytes["conversations"] > 1e8


def test_a_forecast_grows_smoothly_from_the_sample_to_the_whole(demo, small_sample):
    """What is carried over from the middle of a sample is what a larger sample shows."""
    manner = Manner(30, 0.9, 10, 0.1, 30)
    habits = Habits(manner, manner, {2: 0.5, 4: 0.5}, 100, "test")
    wanted = Wanted(3000, gpus=1)
    rates = rates_of(demo, wanted)
    rates = type(rates)(rates.speeds, habits, rates.bytes, 1.0, 0.0, [])
    carried = forecast(demo, wanted, rates).hours
    whole = hold(draw(demo, habits, 3000), worker_of(demo, rates.speeds, 1.0)).seconds / 3600
    assert carried == pytest.approx(whole, rel=0.03)


def test_the_table_of_a_hundred_million_is_what_the_command_says():
    recipe = Recipe.load(Path("usergpt-1gpu"))
    few, many = (planned(recipe, 10**8, gpus=gpus) for gpus in (64, 512))
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    assert f"| time | {few.hours:.1f} h | {many.hours:.1f} h |" in page
    assert f"| GPU-hours | {few.gpu_hours:,.0f} | {many.gpu_hours:,.0f} |" in page
    stored = ", ".join(f"{size / 1e9:.0f} GB" for size in few.bytes.values())
    assert f"| journals, conversations, curated and corpus | {stored} | the same |" in page


def test_an_endpoint_costs_money_by_the_token_and_no_gpu_time(demo):
    remote = [
        "engines.assistant.kind=endpoint",
        "engines.assistant.url=http://x/v1",
        "engines.assistant.model=m",
    ]
    recipe = Recipe.load(SHIPPED, remote)
    assert any("assumed" in source for source in planned(recipe, 10).sources)
    assert not any("assumed" in source for source in planned(demo, 10).sources)
    written = {  # refused ones are paid for as well
        role: sum(s.tokens for talk in draw(recipe, DEMO, 1000) for s in talk if s.role == role)
        for role in ("user", "assistant")
    }
    made = planned(recipe, 1000, completion_million=10.0)
    assert made.money == {"as given": pytest.approx(written["assistant"] / 1e5)}
    assert made.gpu_hours == 0
    own = [
        "engines.user={kind: endpoint, url: 'http://y/v1', model: u,"
        " price: {prompt: 0, completion: 20, currency: EUR}}"
    ]
    made = planned(Recipe.load(SHIPPED, [*remote, *own]), 1000, completion_million=10.0)
    assert made.money == {
        "EUR": pytest.approx(written["user"] / 5e4),
        "as given": pytest.approx(written["assistant"] / 1e5),
    }
    price = "engines.assistant.price={prompt: 100, cached: 0, completion: 0, currency: EUR}"
    fresh = sum(s.prompt for t in draw(recipe, DEMO, 1000) for s in t if s.role == "assistant")
    made = planned(Recipe.load(SHIPPED, [*remote, price]), 1000)
    assert made.money == {"EUR": pytest.approx(fresh / 1e4, rel=1e-3)}


def test_a_model_on_two_gpus_leaves_half_as_many_workers(demo, small_sample):
    two = [f"engines.{role}.tensor_parallel=2" for role in ("user", "assistant")]
    recipe = Recipe.load(SHIPPED, two)
    assert (planned(demo, 10**5, gpus=64).workers, planned(recipe, 10**5, gpus=65).workers) == (
        64,
        32,
    )
    spread, alone = planned(recipe, 10**5, gpus=2), planned(demo, 10**5, gpus=1)
    assert alone.hours / 2 < spread.hours < alone.hours  # of two devices, with one's pauses
    assert spread.gpu_hours == pytest.approx(2 * spread.hours)
    with pytest.raises(InputError, match="takes 2 GPUs"):
        planned(recipe, gpus=1)


def test_rates_of_another_kind_of_machine_are_doubted(demo, run, tmp_path):
    speed = {"steps": [[1, 0.02]], "prefill_s": 1e-4, "model": "m", "machine": "x"}
    for unit, doubted in (("CPU-seconds of one thread", 64), ("seconds by the clock", 0)):
        path = tmp_path / "speed.json"
        path.write_text(json.dumps(speed | {"unit": unit}))
        for gpus in (0, 64):
            sources = rates_of(demo, Wanted(9, gpus=gpus), path).sources
            assert sources[0].startswith("CAUTION: speed.json was") == (gpus == doubted)
    machine = run.metrics()["machine"]["gpu"]
    sources = rates_of(demo, Wanted(9, gpus=0 if machine else 64), run.root).sources
    assert sources[0].startswith("CAUTION: seen was measured with ")


def plan(*arguments):
    return CliRunner().invoke(app, ["plan", *arguments])


def test_the_command():
    done = plan("--conversations", "1_000_000", "--gpus", "64", "--gpu-hour", "2.5")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("1,000,000 conversations of demo on 64 GPUs\n")
    assert "not measured" in " ".join(done.output.split())
    assert "GPU-hours" in done.output
    table = json.loads(plan("--json", "simulate.conversations=50").output)
    assert (table["conversations"], table["money"]) == (50, {})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--conversations", "many"], "no number of conversations"),
        (["--gpu", "abacus", "--gpus", "1"], "known: a100"),
        (["models.assistant=somebody/enormous"], "how large is"),
        (["--rates", "nowhere"], "no finished run"),
        (["--prompt-price", "-1"], "value for '--prompt-price'"),
        (["--prompt-price", "1"], "asks no endpoint"),
        (["--gpu-hour", "2.5"], "say how many"),
        (["--gpu", "a100"], "say how many"),
    ],
)
def test_what_cannot_be_planned(arguments, says):
    done = plan(*arguments)
    assert done.exit_code == 2
    assert says in done.output


def test_sizes_of_models(tmp_path):
    assert parameters_of("Qwen/Qwen2.5-1.5B-Instruct") == 1.5e9
    assert parameters_of("smollm2-135m-instruct") == 135e6
    (tmp_path / "model.safetensors").write_bytes(bytes(4000))
    assert parameters_of(str(tmp_path)) == 2000
    with pytest.raises(InputError):
        parameters_of("gpt-large")


def test_amounts_for_people():
    assert [amount(n) for n in (7, 1234, 5.55e7, 2e12)] == ["7 ", "1.23 k", "55.5 M", "2 T"]
