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

from pipelines.forecast_model import Said, Speed, Worker, hold
from pipelines.forecast_price import GIVEN, charged, usage_of
from pipelines.forecast_rates import (
    ASSUMED,
    DEMO,
    DEVICES,
    REMOTE,
    Bytes,
    Habits,
    Seen,
    caution,
    cpu_speed,
    gpu_speed,
    parameters_of,
    speed_from,
    unmeasured,
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

    Raises InputError for a path that is neither, for a model of unknown size, and for prices of
    what is not asked for.
    """
    _check(recipe, wanted)
    kind: Literal["cpu", "gpu"] = "gpu" if wanted.gpus else "cpu"
    local = any(_engine(recipe, role).kind == "vllm" for role in ROLES)
    sources = caution(given, kind) if given and local else []
    capacity = 1.0 if wanted.gpus else float(cores())
    habits, size = DEMO, Bytes()
    if not given:
        speeds = {role: _speed(recipe, role, wanted) for role in ROLES}
        sources += [unmeasured(wanted.device if wanted.gpus else "")] if local else []
    elif given.is_file():
        speed, source = speed_from(given)
        speeds = {r: speed if _engine(recipe, r).kind == "vllm" else REMOTE for r in ROLES}
        sources.append(source)
    else:
        seen, own = Seen.of(given), Recipe.load(given / "recipe.yaml")
        habits, size = seen.habits, seen.bytes
        factor = _slowness(seen, own, {r: _speed(own, r, wanted, recipe) for r in ROLES}, capacity)
        speeds = {role: _slowed(recipe, role, wanted, own, factor) for role in ROLES}
        took = f"{seen.seconds:.0f} s of a worker's time, {factor:.2f} times the model's"
        sources.append(f"measured: {given.name} took {took}")
    sources += [ASSUMED] if REMOTE in speeds.values() else []
    sources.append(f"turns, rounds and refusals as in {habits.source}")
    return Rates(speeds, habits, size, capacity, START_S[kind], sources)


def _check(recipe: Recipe, wanted: Wanted) -> None:
    if wanted.device not in DEVICES:
        raise InputError(f"no device {wanted.device!r}; known: {', '.join(DEVICES)}")
    if 0 < wanted.gpus < gpus_of(recipe):
        raise InputError(f"a worker takes {gpus_of(recipe)} GPUs (tensor_parallel): give it --gpus")
    if wanted.gpu_hour is not None and not wanted.gpus:
        raise InputError("--gpu-hour is the price of the GPUs of --gpus: say how many")
    if wanted.price and all(_engine(recipe, role).kind != "endpoint" for role in ROLES):
        raise InputError(f"{recipe.name} asks no endpoint: no token has a price")


def _slowness(seen: Seen, own: Recipe, speeds: Mapping[Role, Speed], capacity: float) -> float:
    """How much longer a finished run took than the model gives it."""
    modelled = hold(seen.talks, worker_of(own, speeds, capacity)).seconds
    share = len(seen.talks) / own.simulate.conversations if not seen.whole else 1.0
    return share * seen.seconds / max(modelled, 1e-9)


def _slowed(recipe: Recipe, role: Role, wanted: Wanted, own: Recipe, factor: float) -> Speed:
    """As slow as the finished run of the recipe `own` was, but for an endpoint it did not ask."""
    speed = _speed(recipe, role, wanted, own)
    asked = speed.shared or _engine(own, role).kind != "vllm"
    return speed.scaled(factor) if asked else speed


def _speed(recipe: Recipe, role: Role, wanted: Wanted, beside: Recipe | None = None) -> Speed:
    """Unmeasured; held `beside` another recipe, a model of both may be of any size."""
    if _engine(recipe, role).kind != "vllm":
        return REMOTE
    model = _model(recipe, role)
    try:
        parameters = parameters_of(model)
    except InputError:
        if beside is None or _model(beside, role) != model:
            raise
        parameters = 1e9
    if wanted.gpus:
        together = _engine(recipe, role).tensor_parallel
        return gpu_speed(parameters, DEVICES[wanted.device], together)
    return cpu_speed(parameters)


def _model(recipe: Recipe, role: Role) -> str:
    models = recipe.models
    return _engine(recipe, role).model or (models.user if role == "user" else models.assistant)


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
    sample = max(SAMPLE, 8 * worker.concurrency)
    talks = draw(recipe, rates.habits, min(wanted.conversations, sample))
    line = hold(talks[:share], worker)
    per_s = line.per_s
    talking = line.seconds + (share - len(line.ended_at)) / per_s
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
        occupancy=line.in_flight / min(worker.concurrency, len(line.ended_at)),
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
