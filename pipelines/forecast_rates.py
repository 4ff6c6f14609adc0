"""What a forecast is made from: how fast engines are, and how the two roles talk.

Measured wherever there is a measurement: a finished run's journals and figures, or a file that
`benchmarks/engine_speed.py` wrote on the machine in question. Else defaults, each naming its
source.
"""

import json
import math
import re
import sqlite3
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

from pipelines.forecast_model import Said, Speed
from usersim.audit import ReadJournal
from usersim.checkpoints import EMBEDDED
from usersim.conversation import Role
from usersim.errors import InputError
from usersim.journal import Attempt
from usersim.outcome import LEFT, PASSED_OVER, Record, records

JOURNALS_READ = 20  # of a run: some thousand conversations tell how long turns are
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU as its maker describes it; dense bf16."""

    bytes_per_s: float
    flop_per_s: float


DEVICES = {
    "a100": Device(2.0e12, 312e12),
    "h100": Device(3.35e12, 989e12),
    "h200": Device(4.8e12, 989e12),
    "l40s": Device(0.86e12, 362e12),
}
BANDWIDTH_USED, FLOPS_USED, STEP_OVERHEAD_S = 0.6, 0.4, 0.004
"""Shares of the data sheet that a serving engine reaches, and its pause between steps: assumed."""
CONTEXT = 1000  # tokens of a running sequence, whose keys and values each step reads: assumed
CPU_STEPS = ((1, 0.0245), (16, 0.0607), (64, 0.1214), (128, 0.256), (256, 0.569))
CPU_PREFILL_S, CPU_PARAMETERS = 0.0009, 0.135e9
"""vLLM on one CPU thread, SmolLM2-135M in bf16, CPU-seconds on an AMD EPYC with AVX-512 BF16."""
REMOTE = Speed(((1, 1 / 40.0),), 0.0, shared=False)
"""Somebody else's machine: each completion takes its time, whoever else is served."""
ASSUMED = "an endpoint's 40 tokens/s of each completion: assumed"


@dataclass(frozen=True, slots=True)
class Manner:
    """How one role talks."""

    median: float
    """Tokens of a turn; their logarithms are normal, before the limit cuts."""
    sigma: float
    overhead: float
    """New prompt tokens of a completion besides what the other has just said."""
    refused: float
    """Share of its completions that the guards refuse."""
    refused_tokens: float
    """Tokens of a refused completion: often it is refused for having reached the limit."""

    def mean(self, limit: int) -> float:
        """Mean tokens of a turn that is cut at `limit`: E[min(X, limit)], X lognormal."""
        normal, mu = statistics.NormalDist(), math.log(self.median)
        z = (math.log(limit) - mu) / self.sigma
        whole = math.exp(mu + self.sigma**2 / 2) * normal.cdf(z - self.sigma)
        return whole + limit * (1 - normal.cdf(z))


@dataclass(frozen=True, slots=True)
class Habits:
    """How conversations go."""

    user: Manner
    assistant: Manner
    rounds: Mapping[int, float]
    """Share of conversations by their rounds, up to the limit of the run that it was seen in."""
    prompt_tokens: float
    """Prompt tokens of a completion, cached ones included."""
    source: str
    stopped: bool = True
    """Whether those of the most rounds were stopped there, and had not left of their own accord."""

    def of(self, role: Role) -> Manner:
        """One role's manner."""
        return self.user if role == "user" else self.assistant


# The demo's 216 conversations: SmolLM2-135M on both sides, answers limited to 160 tokens.
DEMO = Habits(
    user=Manner(16, 0.86, 20, 0.17, 91),
    assistant=Manner(111, 0.9, 35, 0.12, 80),
    rounds={1: 48 / 216, 2: 42 / 216, 3: 43 / 216, 4: 83 / 216},
    prompt_tokens=189,
    source="the demo's conversations",
)


@dataclass(frozen=True, slots=True)
class Bytes:
    """What a token that was written takes on disk."""

    journal: float = 6.5
    conversations: float = 1.5
    """Of Parquet (zstd). Defaults: the demo's journal and data file, by the tokens in them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a finished run shows."""

    habits: Habits
    bytes: Bytes
    talks: list[list[Said]]
    """Its conversations as a model of the scheduler takes them."""
    seconds: float
    """For which workers had their engines open, added up."""
    whole: bool
    """Whether `talks` are all of them."""

    @classmethod
    def of(cls, root: Path) -> Self:
        """Read a run's journals and figures. Raises InputError where there is nothing finished."""
        figures = _figures(root)
        paths = sorted((root / "journal").glob("part-*.sqlite"))
        if not paths:
            raise InputError(f"{root} has no journals to measure")
        found: list[Record] = []
        try:
            for path in islice(paths, JOURNALS_READ):
                with closing(ReadJournal(path)) as journal:
                    found += records(journal)
        except sqlite3.Error as error:
            raise InputError(f"cannot read {path}: {error}") from error
        habits = _habits(found, f"the conversations of {root.name}")
        talks = [[_said(a) for a in r.attempts] for r in found]
        whole = len(paths) <= JOURNALS_READ
        seconds = float(figures.get("worker_seconds") or figures["seconds"])  # older ones: none
        return cls(habits, _bytes(root, figures), talks, seconds, whole)


def _figures(root: Path) -> dict[str, Any]:
    try:
        figures = json.loads((root / "metrics.json").read_text(encoding="utf-8"))["simulate"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{root} is no finished run: no figures of simulate there") from error
    return dict(figures)


def _said(attempt: Attempt) -> Said:
    new = attempt.prompt_tokens - attempt.cached_tokens
    refused = not attempt.accepted and attempt.reason != LEFT
    return Said(attempt.role, attempt.completion_tokens, new, refused)


def _habits(found: Sequence[Record], source: str) -> Habits:
    attempts = [a for r in found for a in r.attempts if a.reason not in (LEFT, PASSED_OVER)]
    if not attempts:
        raise InputError(f"{source} hold no turn to measure")
    rounds = Counter(len(record.published) // 2 for record in found)
    rounds.pop(0, None)
    if not rounds:
        raise InputError(f"{source} hold no round to measure: all of them were rejected")
    return Habits(
        user=_manner([a for a in attempts if a.role == "user"], _heard(found, "user")),
        assistant=_manner([a for a in attempts if a.role != "user"], _heard(found, "assistant")),
        rounds={n: count / rounds.total() for n, count in sorted(rounds.items())},
        prompt_tokens=statistics.fmean(a.prompt_tokens for a in attempts),
        source=source,
        stopped=any(r.ending is not None and r.ending.stop_reason == "max_rounds" for r in found),
    )


def _heard(found: Iterable[Record], role: Role) -> float:
    """Tokens of what the other had just said, a completion of this role."""
    tokens = [0]
    for record in found:
        last: dict[str, int] = {}
        for attempt in record.attempts:
            if attempt.role == role:
                tokens.append(last.get("assistant" if role == "user" else "user", 0))
            if attempt.accepted:
                last[attempt.role] = attempt.completion_tokens
    return statistics.fmean(tokens)


def _manner(attempts: Sequence[Attempt], heard: float) -> Manner:
    accepted = sorted(a.completion_tokens for a in attempts if a.accepted) or [1]
    refused = [a.completion_tokens for a in attempts if not a.accepted]
    median = max(1, accepted[len(accepted) // 2])
    new = statistics.fmean(a.prompt_tokens - a.cached_tokens for a in attempts) if attempts else 0.0
    return Manner(
        median,
        _sigma(accepted, median),
        max(0.0, new - heard),
        min(len(refused) / max(1, len(attempts)), 0.9),
        statistics.fmean(refused) if refused else 0.0,
    )


def _sigma(lengths: Sequence[int], median: float) -> float:
    """The spread with which a lognormal of this median, cut at the longest, has the mean seen.

    Where the limit cuts more than a few, the mean says little about the spread; then by the
    quantile that lies one sigma below the median, which no limit moves.
    """
    mean, longest = statistics.fmean(lengths), lengths[-1]
    low, high = 0.05, 1.5
    if longest < 2 * median or mean <= median:
        return max(low, math.log(median / max(1, lengths[int(len(lengths) * 0.16)])))
    for _ in range(40):
        middle = (low + high) / 2
        if Manner(median, middle, 0, 0, 0).mean(longest) < mean:
            low = middle
        else:
            high = middle
    return low


def _bytes(root: Path, figures: Mapping[str, Any]) -> Bytes:
    told = figures["tokens"]["user"] + figures["tokens"]["assistant"]
    written = told + figures["tokens_refused"] + figures.get("tokens_passed_over", 0)
    if not told:
        return Bytes()
    journal = sum(p.stat().st_size for p in (root / "journal").glob("part-*.sqlite"))
    data = sum(p.stat().st_size for p in (root / "conversations").glob("part-*.parquet"))
    return Bytes(journal / written, (data / told) or Bytes().conversations)


def cpu_speed(parameters: float) -> Speed:
    """One thread of a CPU: the measured table, in proportion to the model's size."""
    scale = parameters / CPU_PARAMETERS
    return Speed(CPU_STEPS, CPU_PREFILL_S).scaled(scale)


def gpu_speed(parameters: float, device: Device, together: int = 1) -> Speed:
    """A GPU by its roofline: weights, keys and values are read once a step, or it computes.

    Of several that hold one model `together` each does its part; their exchange is not counted.
    """
    weights = 2 * parameters  # bf16
    kept = CONTEXT * 40e3 * math.sqrt(parameters / 1e9)  # about twice Qwen2.5's, below Llama 3's
    read = together * device.bytes_per_s * BANDWIDTH_USED
    compute = together * device.flop_per_s * FLOPS_USED
    steps = tuple(
        (n, STEP_OVERHEAD_S + max((weights + n * kept) / read, 2 * parameters * n / compute))
        for n in (1, 8, 32, 64, 128, 256, 512)
    )
    return Speed(steps, 2 * parameters / compute)


def unmeasured(device: str) -> str:
    """Where `gpu_speed` of a device, or (without one) `cpu_speed`, comes from."""
    if not device:
        return "engine speed: 135M model on one CPU thread (measured elsewhere), by model size"
    return (
        f"ROOFLINE of {device} (data sheet; 60 % of its bandwidth, 40 % of its FLOP/s): not"
        " measured; --rates RUN takes a finished run's"
    )


def speed_from(path: Path) -> tuple[Speed, str]:
    """What `benchmarks/engine_speed.py` measured, and a line about where.

    Raises InputError for a file that it did not write.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        steps = tuple(sorted((int(n), float(seconds)) for n, seconds in table["steps"]))
        if not steps or min(seconds for _, seconds in steps) <= 0:
            raise ValueError("no steps that take time")
        speed = Speed(steps, float(table["prefill_s"]))
        return speed, f"measured: {table['model']} on {table['machine']} ({path.name})"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} holds no engine's speed ({error}): name a finished run's folder, or what"
            " `benchmarks/engine_speed.py` printed"
        ) from error


def caution(given: Path, kind: Literal["cpu", "gpu"]) -> list[str]:
    """A line of warning where a speed file, or the machine of a run, is of the other kind.

    No refusal: a run on Ray tells of the machine that began it, not of its workers'.
    """
    path = given if given.is_file() else given / "metrics.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        on_gpu = "clock" in table["unit"] if given.is_file() else bool(table["machine"]["gpu"])
    except (OSError, ValueError, KeyError, TypeError):
        return []  # older ones do not say
    if on_gpu == (kind == "gpu"):
        return []
    had, lacks = ("a GPU", "none is") if on_gpu else ("no GPU", "some are")
    return [f"CAUTION: {given.name} was measured with {had}, and {lacks} asked for (--gpus)"]


def parameters_of(model: str) -> float:
    """A model's parameters: of a checkpoint folder by its files, else from its name (`1.5B`).

    Raises InputError when neither tells.
    """
    files = list(Path(model).expanduser().glob("*.safetensors")) if model else []
    if files:
        return sum(path.stat().st_size for path in files) / 2
    found = re.findall(r"(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", Path(model).name.lower())
    if not found:
        known = ", ".join(EMBEDDED)
        raise InputError(
            f"how large is {model!r}? Name a folder, a model with its size in its name (as 7B), one"
            f" of {known}; or give --rates with a finished run of this recipe"
        )
    number, unit = found[-1]
    return float(number) * (1e9 if unit == "b" else 1e6)
