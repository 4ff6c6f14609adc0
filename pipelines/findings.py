"""What a run's figures say, in words: the answers on the first screen of its report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pipelines.charts import Change, Estimate, thousands
from pipelines.gate import Check, GateSettings, checks
from pipelines.licensing import Entry, permission
from pipelines.model_card import public_name
from pipelines.run_view import RunView
from usersim.errors import InputError

MAIN_DISTANCES = {
    "words_first": ("length of the first turn", "words"),
    "words_later": ("length of later turns", "words"),
    "rounds_to_cap": ("number of rounds", "bit"),
}
"""The distances of the first screen; all of them stand in the section below it."""


@dataclass(frozen=True, slots=True)
class Closeness:
    """One distance to people beside the distance that people have to each other."""

    name: str
    label: str
    unit: str
    value: float | None
    floor: float | None
    floor_high: float | None
    within: bool | None

    @property
    def verdict(self) -> str:
        """In words; "not known" where a side had nothing to measure."""
        if self.value is None or self.floor_high is None or not self.floor:
            return "not known"
        if self.within:
            return "within people's own range"
        return f"{self.value / self.floor:.1f} times people's own distance"


def closeness(surface: Mapping[str, Any] | None, name: str, label: str, unit: str) -> Closeness:
    """One distance of `usersim.surface.compare`."""
    found = (surface or {}).get("distance", {}).get(name, {})
    keys = ("value", "floor", "floor_high", "within")
    return Closeness(name, label, unit, *(found.get(key) for key in keys))


def likeness(surface: Mapping[str, Any] | None) -> tuple[str, list[Closeness]]:
    """Are they like people's? The short answer and the distances behind it."""
    rows = [closeness(surface, name, *text) for name, text in MAIN_DISTANCES.items()]
    known = [row for row in rows if row.within is not None]
    if not known:
        return "not known yet", rows
    near = sum(bool(row.within) for row in known)
    answers = {0: "no", len(known): "yes"}
    of = f"{near} of {len(known)} measures are within what separates people from people"
    return f"{answers.get(near, 'in part')}: {of}", rows


@dataclass(frozen=True, slots=True)
class Gate:
    """What `realchat gate` says of a run."""

    bounds: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every bound holds."""
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        """The bounds that do not hold."""
        return [bound for bound in self.bounds if not bound.passed]


def gate(view: RunView) -> Gate | None:
    """The bounds of the run's recipe against its figures; None before curation."""
    if not view.table("curate"):
        return None
    try:
        settings = GateSettings.model_validate(recipe_table(view).get("gate") or {})
    except ValueError:
        return None  # a recipe of another version: `realchat gate` says what is wrong with it
    fidelity = {"fidelity": view.fidelity} if view.fidelity else {}
    return Gate(tuple(checks(settings, view.metrics | fidelity)))


def answer(publish: str, gate: Gate | None) -> str:
    """May it be published, by its licenses and by its gate? In a few words."""
    if publish.startswith("yes") and gate is not None and not gate.passed:
        return "no, the gate fails"
    return publish


def funnels(view: RunView) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Funnel stages of real people's conversations, and of simulated ones."""
    return view.funnel("ingest", "funnel"), [*_simulation(view), *view.funnel("curate", "funnel")]


def _simulation(view: RunView) -> list[dict[str, Any]]:
    """Simulation as a stage of the funnel: what it could not finish is rejected too."""
    planned, made = view.number("simulate", "planned"), view.number("simulate", "conversations")
    reasons = view.counts("simulate", "rejected_reasons")
    if planned is None or made is None or planned - made != sum(reasons.values()):
        return []
    counts = {"in": planned, "kept": made, "rejected": planned - made, "reasons": reasons}
    return [{"stage": "simulate", "unit": "conversations"} | counts]


def lost_by_reason(stages: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How many records a funnel rejected for each reason."""
    reasons: Counter[str] = Counter()
    for stage in stages:
        reasons.update(stage["reasons"])
    return reasons


def perplexity_changes(view: RunView) -> list[Change]:
    """Perplexity on held-out people before and after training: all, first and later turns."""
    found = []
    for part in ("all", "first", "later"):
        before, after = (_perplexity(view, when, part) for when in ("before", "after"))
        if before and after:
            found.append(Change(f"{part} turns", before, after))
    return found


def _perplexity(view: RunView, when: str, part: str) -> Estimate | None:
    place = ("user_model", "perplexity")
    if part != "all":
        return view.estimate(*place, "detail", when, part)
    return view.estimate(*place, "detail", when) or view.estimate(*place, when)


def loss_changes(view: RunView) -> list[Change]:
    """The assistant's loss before and after training, on real answers and on simulated ones."""
    found = []
    for name, label in (("real", "people's chats"), ("simulated", "simulated chats")):
        pair = [view.estimate("assistant", "loss", name, when) for when in ("before", "after")]
        if pair[0] and pair[1]:
            found.append(Change(label, pair[0], pair[1]))
    return found


def loss_sentence(view: RunView, name: str) -> str:
    """What training did to the loss on `real` or `simulated` answers, worse said as worse."""
    change = view.estimate("assistant", "loss", name, "difference")
    if change is None:
        return ""
    size = f"{abs(change.mean):.3f} nats per token"
    if change.low is None or change.high is None:
        return f"{'worse' if change.mean > 0 else 'better'} by {size} (no interval)"
    interval = f"95\N{NO-BREAK SPACE}% interval {signed(change.low, 3)} to {signed(change.high, 3)}"
    if change.low > 0:
        return f"worse by {size} ({interval})"
    if change.high < 0:
        return f"better by {size} ({interval})"
    return f"no clear change ({signed(change.mean, 3)} nats per token, {interval})"


def signed(number: float, digits: int) -> str:
    """With its sign, as printed, with a true minus sign."""
    return f"{number:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def models(view: RunView) -> dict[str, str]:
    """Which model played which part: names without folders of the machine."""
    recipe = recipe_table(view)
    table = recipe.get("models")
    named: dict[str, Any] = table if isinstance(table, dict) else {}
    chosen = {
        "user simulator": view.at("user_model", "base") or named.get("user"),
        "assistant": _lineage(view) or named.get("assistant"),
        "student": view.at("assistant", "base") or named.get("student"),
    }
    return {role: public_name(str(name)) for role, name in chosen.items() if name}


def _lineage(view: RunView) -> str:
    names = {public_name(c.assistant_model) for c in view.simulated if c.assistant_model}
    return ", ".join(sorted(names))


def recipe_table(view: RunView) -> dict[str, Any]:
    """The recipe as a table; empty when there is none that can be read."""
    try:
        table = yaml.safe_load(view.recipe)
    except yaml.YAMLError:
        return {}
    return table if isinstance(table, dict) else {}


def may_publish(view: RunView) -> tuple[str, str]:
    """May this corpus be published? The short answer and why; folded from every row's license."""
    found = ledger(view)
    if not found:
        return "not known yet", "There are no conversations whose license could be looked at."
    corpus = recipe_table(view).get("corpus")
    named = corpus.get("license") if isinstance(corpus, dict) else None
    stated = str(view.at("corpus", "license") or named or "unknown")
    try:
        given = permission(found, stated)
    except InputError as error:
        return "not as it is", str(error)
    sources = "; ".join(_ledger_line(entry) for entry in found)
    return f"yes, under {given.license}", f"Licenses of its sources: {sources}."


def ledger(view: RunView) -> list[Entry]:
    """Every source of a run's rows with its license."""
    rows = view.kept or view.simulated
    listed = view.at("corpus", "sources")
    if not rows and isinstance(listed, list):
        named = [row for row in listed if isinstance(row, dict)]
        return [
            Entry(str(r.get("source", "")), str(r.get("license", "")), r.get("conversations"))
            for r in named
        ]
    counts = Counter((c.source, c.license) for c in rows)
    return [Entry(source, name, n) for (source, name), n in counts.most_common()]


def _ledger_line(entry: Entry) -> str:
    return (
        f"{entry.source or 'rows'}: {entry.license or 'not stated'}, {thousands(entry.count or 0)}"
    )
