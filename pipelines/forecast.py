"""`realchat plan`: what a run would take, before it is begun: hours, tokens, storage, money.

A sample of its conversations is drawn and held on a model of one worker (`forecast_model`); what
a worker does in the middle of its time is carried to the whole. Figures that were measured and
those that were assumed say which they are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.forecast_model import Said, Speed, Timeline, Worker, hold
from pipelines.forecast_price import GIVEN, charged, usage_of
from pipelines.forecast_rates import (
    DEMO,
    DEVICES,
    Bytes,
    Habits,
    Seen,
    caution,
    cpu_speed,
    gpu_speed,
    parameters_of,
    speed_from,
)
from pipelines.machine import cores
from pipelines.recipe import Recipe
from usersim.conversation import Role
from usersim.engines import Price
from usersim.errors import InputError
from usersim.learn_likeness import rehearsal
from usersim.progress import duration

if TYPE_CHECKING:
    import numpy as np

    from pipelines.recipe import RoleEngine

START_S = {"cpu": 30.0, "gpu": 90.0}  # engines: measured on two cores; assumed on a GPU
SAMPLE = 3000  # conversations that are held in the model, unless a worker's slots want more
TURN_TOKENS_S = 40.0  # an endpoint's tokens/s of one completion: assumed
ROLES: tuple[Role, Role] = ("user", "assistant")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked: how much, on what, at which prices."""

    conversations: int
    gpus: int = 0
    """0: the cores of this machine. A worker takes as many as its largest `tensor_parallel`."""
    device: str = "h100"
    gpu_hour: float | None = None
    prompt_million: float | None = None
    completion_million: float | None = None
    """Prices: of a GPU's hour; of a million tokens at endpoints whose price no recipe tells."""

    @property
    def price(self) -> Price | None:
        """That of an endpoint's tokens, where one is asked for."""
        prompt, completion = self.prompt_million, self.completion_million
        if prompt is None and completion is None:
            return None
        return Price(prompt=prompt or 0.0, completion=completion or 0.0, currency=GIVEN)


@dataclass(frozen=True, slots=True)
class Rates:
    """What the forecast rests on."""

    speeds: Mapping[Role, Speed]
    habits: Habits
    bytes: Bytes
    capacity: float
    start_s: float
    sources: list[str]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What it would take. Tokens, bytes and money are those of the whole run."""

    conversations: int
    workers: int
    hours: float
    start_hours: float
    drain_hours: float
    """The end of the slowest worker's time, in which slots fall empty."""
    gpu_hours: float
    conversations_per_s: float
    rounds_mean: float
    tokens: dict[str, float]
    """Of user and assistant, of refused completions, of prompts, and of prompts computed."""
    bytes: dict[str, float]
    occupancy: float
    """Completions in flight, as a share of the slots, until the last tenth."""
    money: dict[str, float]
    """By currency; empty without prices."""
    learning: dict[str, float]
    """`conversations`, `tokens` and `hours` of the stage learn-likeness, beside all the others
    here; empty where it is not done."""
    sources: list[str]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def rates_of(recipe: Recipe, wanted: Wanted, given: Path | None = None) -> Rates:
    """The rates that a forecast takes: from `given` (a run's folder, a speed file), or defaults.

    Raises InputError for a path that is neither, and for a model of unknown size.
    """
    if wanted.device not in DEVICES:
        raise InputError(f"no device {wanted.device!r}; known: {', '.join(DEVICES)}")
    if 0 < wanted.gpus < gpus_of(recipe):
        raise InputError(f"a worker takes {gpus_of(recipe)} GPUs (tensor_parallel): give it --gpus")
    kind: Literal["cpu", "gpu"] = "gpu" if wanted.gpus else "cpu"
    local = any(_engine(recipe, role).kind == "vllm" for role in ROLES)
    doubts = caution(given, kind) if given and local else []
    capacity = 1.0 if wanted.gpus else float(cores())
    if given and given.is_file():
        speed, source = speed_from(given)
        speeds = {role: _of_endpoint(recipe, role) or speed for role in ROLES}
        sources = [*doubts, source, _about(DEMO)]
        return Rates(speeds, DEMO, Bytes(), capacity, START_S[kind], sources)
    speeds = {role: _speed(recipe, role, wanted) for role in ROLES}
    if not given:
        return Rates(speeds, DEMO, Bytes(), capacity, START_S[kind], _unmeasured(wanted))
    seen, own = Seen.of(given), Recipe.load(given / "recipe.yaml")
    factor = _slowness(seen, own, speeds, capacity)
    speeds = {role: s if not s.shared else s.scaled(factor) for role, s in speeds.items()}
    source = f"measured: {given.name} took {seen.seconds:.0f} s, {factor:.2f} times the model's"
    sources = [*doubts, source, _about(seen.habits)]
    return Rates(speeds, seen.habits, seen.bytes, capacity, START_S[kind], sources)


def _slowness(seen: Seen, own: Recipe, speeds: Mapping[Role, Speed], capacity: float) -> float:
    """How much longer a finished run took than the model gives it."""
    modelled = hold(seen.talks, worker_of(own, speeds, capacity)).seconds
    share = len(seen.talks) / own.simulate.conversations if not seen.whole else 1.0
    return share * seen.seconds / max(modelled, 1e-9)


def _about(habits: Habits) -> str:
    return f"turns, rounds and refusals as in {habits.source}"


def _unmeasured(wanted: Wanted) -> list[str]:
    source = (
        f"ROOFLINE of {wanted.device} (data sheet; 60 % of its bandwidth, 40 % of its FLOP/s): not"
        " measured; --rates RUN takes a finished run's"
        if wanted.gpus
        else "engine speed: 135M model on one CPU thread (measured elsewhere), by model size"
    )
    return [source, _about(DEMO)]


def _speed(recipe: Recipe, role: Role, wanted: Wanted) -> Speed:
    engine = _engine(recipe, role)
    if endpoint := _of_endpoint(recipe, role):
        return endpoint
    default = recipe.models.user if role == "user" else recipe.models.assistant
    parameters = parameters_of(engine.model or default)
    if wanted.gpus:
        return gpu_speed(parameters, DEVICES[wanted.device], engine.tensor_parallel)
    return cpu_speed(parameters)


def _of_endpoint(recipe: Recipe, role: Role) -> Speed | None:
    """Somebody else's machine: each completion takes its time, whoever else is served."""
    if _engine(recipe, role).kind == "vllm":
        return None
    return Speed(((1, 1 / TURN_TOKENS_S),), 0.0, shared=False)


def _engine(recipe: Recipe, role: Role) -> "RoleEngine":
    return recipe.engines.user if role == "user" else recipe.engines.assistant


def gpus_of(recipe: Recipe) -> int:
    """GPUs of one worker: its engines share them."""
    engines = [_engine(recipe, role) for role in ROLES]
    return max((e.tensor_parallel for e in engines if e.kind == "vllm"), default=1)


def worker_of(recipe: Recipe, speeds: Mapping[Role, Speed], capacity: float) -> Worker:
    """One worker of the recipe."""
    engines = {
        role: (speeds[role], e.replicas, e.max_num_seqs)
        for role in ROLES
        for e in [_engine(recipe, role)]
    }
    return Worker(engines, recipe.simulate.concurrency, capacity)


def draw(recipe: Recipe, habits: Habits, number: int) -> list[list[Said]]:
    """So many conversations as the habits have them, within the recipe's limits."""
    import numpy as np

    generator = np.random.default_rng(recipe.seed)
    shares = np.array(_rounds_within(recipe, habits))
    rounds = generator.choice(len(shares), size=number, p=shares / shares.sum()) + 1
    return [_talk(recipe, habits, int(n), generator) for n in rounds]


def _rounds_within(recipe: Recipe, habits: Habits) -> list[float]:
    """Share of conversations by their rounds, from one up to the recipe's most.

    Nobody leaves before the recipe's fewest rounds; from there on they leave as often after each
    round as the habits have it, and after rounds that those do not reach as often as on average.
    """
    fewest, most = recipe.simulate.min_rounds, recipe.simulate.max_rounds
    seen = max(habits.rounds) + (not habits.stopped)
    left = {n: habits.rounds.get(n, 0.0) for n in range(1, seen)}
    stayed = {n: sum(s for k, s in habits.rounds.items() if k >= n) for n in left}
    usual = sum(left.values()) / max(sum(stayed.values()), 1e-9)
    shares, going_on = [], 1.0
    for n in range(1, most):
        leaves = left[n] / max(stayed[n], 1e-9) if n in left else usual
        shares.append(0.0 if n < fewest else going_on * leaves)
        going_on -= shares[-1]
    return [*shares, going_on]


def _talk(
    recipe: Recipe, habits: Habits, rounds: int, generator: "np.random.Generator"
) -> list[Said]:
    said: list[Said] = []
    heard = 0
    for _ in range(rounds):
        for role in ROLES:
            manner, most = habits.of(role), _limit(recipe, role)
            new = heard + manner.overhead
            while generator.random() < manner.refused:  # and heard by nobody
                said.append(Said(role, min(most, round(manner.refused_tokens)), new, True))
            chooses = role == "user" and recipe.simulate.chooses
            candidates = recipe.simulate.candidates if chooses else 1
            drawn = generator.standard_normal(candidates)
            lengths = (manner.median * math.exp(manner.sigma * z) for z in drawn)
            *others, heard = (min(most, max(1, round(length))) for length in lengths)
            said += [Said(role, tokens, new, True) for tokens in others]
            said.append(Said(role, heard, new))
    if rounds < recipe.simulate.max_rounds:
        said.append(Said("user", 1, heard + habits.user.overhead))  # the empty turn: leaving
    return said


def _limit(recipe: Recipe, role: Role) -> int:
    simulate = recipe.simulate
    return (simulate.user_sampling if role == "user" else simulate.assistant_sampling).max_tokens


def forecast(recipe: Recipe, wanted: Wanted, rates: Rates) -> Forecast:
    """What `wanted.conversations` of the recipe would take."""
    workers = max(1, wanted.gpus // gpus_of(recipe))
    share = -(-wanted.conversations // workers)
    worker = worker_of(recipe, rates.speeds, rates.capacity)
    talks = draw(recipe, rates.habits, min(share, max(SAMPLE, 8 * worker.concurrency)))
    line = hold(talks, worker)
    per_s = _steady(line)
    talking = line.seconds + (share - len(talks)) / per_s
    hours = (talking + rates.start_s) / 3600
    scale = wanted.conversations / len(talks)
    tokens = _tokens(talks, rates.habits, scale)
    usage = usage_of(talks, rates.habits.prompt_tokens, scale)
    gpu_hours = hours * wanted.gpus
    return Forecast(
        conversations=wanted.conversations,
        workers=workers,
        hours=hours,
        start_hours=rates.start_s / 3600,
        drain_hours=max(0.0, talking - share / per_s) / 3600,
        gpu_hours=gpu_hours,
        conversations_per_s=wanted.conversations / (hours * 3600),
        rounds_mean=_rounds(talks),
        tokens=tokens,
        bytes=_storage(tokens, rates.bytes),
        occupancy=line.in_flight / min(worker.concurrency, len(talks)),
        money=_money(recipe, wanted, gpu_hours, usage),
        learning=_learning(recipe, rates),
        sources=rates.sources,
    )


def _learning(recipe: Recipe, rates: Rates) -> dict[str, float]:
    """What the rehearsal takes that a likeness is learned from."""
    if not recipe.learns_likeness:
        return {}
    held = recipe.model_copy(
        update={"simulate": rehearsal(recipe.likeness, recipe.simulate, Path())}
    )
    talks = draw(held, rates.habits, held.simulate.conversations)
    seconds = rates.start_s + hold(talks, worker_of(held, rates.speeds, rates.capacity)).seconds
    tokens = sum(said.tokens for talk in talks for said in talk)
    return {"conversations": len(talks), "tokens": tokens, "hours": seconds / 3600}


def _steady(line: Timeline) -> float:
    """Conversations a second between the first tenth of them and the last fifth."""
    ended = line.ended_at
    first, last = len(ended) // 10, max(len(ended) * 4 // 5, len(ended) // 10 + 1) - 1
    if last <= first or ended[last] <= ended[first]:
        return len(ended) / max(line.seconds, 1e-9)
    return (last - first) / (ended[last] - ended[first])


def _rounds(talks: Sequence[Sequence[Said]]) -> float:
    answers = sum(s.role == "assistant" and not s.refused for talk in talks for s in talk)
    return answers / len(talks)


def _tokens(talks: Sequence[Sequence[Said]], habits: Habits, scale: float) -> dict[str, float]:
    everything = [said for talk in talks for said in talk]
    counts: dict[str, float] = {
        **{
            str(role): sum(s.tokens for s in everything if s.role == role and not s.refused)
            for role in ROLES
        },
        "refused": sum(said.tokens for said in everything if said.refused),
        "prompt": habits.prompt_tokens * len(everything),
        "prompt_computed": sum(said.prompt for said in everything),
    }
    return {name: scale * count for name, count in counts.items()}


def _storage(tokens: Mapping[str, float], per_token: Bytes) -> dict[str, float]:
    told = tokens["user"] + tokens["assistant"]
    return {
        "journal": (told + tokens["refused"]) * per_token.journal,
        "conversations": told * per_token.conversations,
        "curated and corpus": 2 * told * per_token.conversations,
    }


def _money(
    recipe: Recipe, wanted: Wanted, gpu_hours: float, usage: Mapping[Role, Mapping[str, int]]
) -> dict[str, float]:
    """GPU time, and what endpoints charge."""
    money = charged(recipe, usage, wanted.price)
    if wanted.gpu_hour is not None:
        money[GIVEN] = money.get(GIVEN, 0.0) + gpu_hours * wanted.gpu_hour
    return money


def report(recipe: Recipe, wanted: Wanted, f: Forecast) -> str:
    """The forecast as plain text."""
    each = f" ({f.workers:,} workers of {gpus_of(recipe)})" if gpus_of(recipe) > 1 else ""
    where = f"{wanted.gpus} GPUs{each}" if wanted.gpus else "this machine"
    tokens = {name: amount(count) for name, count in f.tokens.items()}
    stored = ", ".join(f"{name} {amount(size)}B" for name, size in f.bytes.items())
    dropped = "refused or passed over" if recipe.simulate.chooses else "refused"
    lines = [
        f"{f.conversations:,} conversations of {recipe.name} on {where}",
        f"  time     {duration(f.hours * 3600)}, {f.conversations_per_s:,.2f} conversations/s;"
        f" start {duration(f.start_hours * 3600)}, slots fall empty over the last"
        f" {duration(f.drain_hours * 3600)}",
        f"  rounds   {f.rounds_mean:.2f} a conversation, about"
        f" {2 * f.rounds_mean * f.conversations:,.0f} turns in all",
        f"  tokens   {tokens['user']} user + {tokens['assistant']} assistant, {tokens['refused']}"
        f" {dropped}; prompts {tokens['prompt']}, of them {tokens['prompt_computed']} computed",
        f"  slots    {f.occupancy:.0%} of {recipe.simulate.concurrency} a worker in use",
        f"  storage  {stored}",
    ]
    lines += [f"  GPUs     {f.gpu_hours:,.1f} GPU-hours"] if wanted.gpus else []
    lines += [
        f"  price    {money:,.2f} {'in the currency given' if currency == GIVEN else currency}"
        for currency, money in f.money.items()
    ]
    lines += [f"  besides  {line}" for line in _besides(recipe, f.learning)]
    return "\n".join([*lines, *(f"  from     {source}" for source in f.sources)])


def _besides(recipe: Recipe, learning: Mapping[str, float]) -> list[str]:
    """What the figures are without."""
    lines = ["people, training, curation and the rest of a run are not counted"]
    if recipe.engines.placement == "one_engine":
        lines.append("one_engine is held as two that share the device: batches not shared, no LoRA")
    if learning:
        held, tokens = learning["conversations"], amount(learning["tokens"])
        took = duration(learning["hours"] * 3600)
        lines.append(
            f"learn-likeness, not counted: {held:,.0f} conversations, {tokens} tokens, {took}"
        )
    return lines


def amount(number: float) -> str:
    """A number with two or three digits that matter: `4.2 M`."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} "
