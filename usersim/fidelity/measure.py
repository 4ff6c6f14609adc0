"""All points of fidelity, from what could be had: a table for `fidelity.json`, and its summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from usersim.briefs import Brief
from usersim.conversation import Conversation
from usersim.fidelity.compliance import DEFINITIONS as COMPLIANCE
from usersim.fidelity.compliance import condition_figures, intent_figures
from usersim.fidelity.designs import DEFINITIONS
from usersim.fidelity.endings import ending_figures
from usersim.fidelity.floors import check_sides
from usersim.fidelity.habits import habit_figures
from usersim.fidelity.likelihood import perplexity_figures
from usersim.fidelity.memory import TrainingTurns, memory_figures, personal_figures
from usersim.fidelity.persons import Person, conversations_of
from usersim.fidelity.roles import role_figures
from usersim.fidelity.rounds import DEFINITION as ROUNDS
from usersim.fidelity.rounds import rounds_figures
from usersim.fidelity.shares import DEFINITION as SHARE
from usersim.fidelity.summary import summary_rows
from usersim.fidelity.two_sample import TwoSampleSettings, two_sample
from usersim.fidelity.variety import variety_figures
from usersim.leaving import EndBias
from usersim.perplexity import TargetScore
from usersim.progress import track
from usersim.settings import Settings
from usersim.surface import rounds_cap

SCHEMA = 1
NO_SIMULATION = "no simulated conversations"
NO_ENDS = "of no real conversation it is known that the person left: all records break off"
NO_TRAINING = (
    "the people that the model learned from are not known: they are looked for in the run that the "
    "user model stands in, or named by --train"
)


class MeasureSettings(Settings):
    """How fidelity is measured."""

    two_sample: TwoSampleSettings = Field(
        TwoSampleSettings(), description="the classifier two-sample test"
    )


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to measure on. No real person may be one that the model learned from."""

    real: Sequence[Person]
    simulated: Sequence[Person] = ()
    prompted: Sequence[Person] = ()
    """Simulated by the baseline: untrained weights, instructed to act as a user."""
    scores: Mapping[str, Sequence[TargetScore]] = field(default_factory=dict)
    """What models made of real people's turns: `user_model`, `prompted`, `with_profile`, ..."""
    bias: Mapping[str, EndBias] = field(default_factory=dict)
    """Of each model what is added to the logit of leaving."""
    briefs: Mapping[str, Brief] = field(default_factory=dict)
    """What simulated conversations were told, by id."""
    confusion_of_attempts: float | None = None
    """Share of all user turns that were drawn; see `roles.confusion_of_attempts`."""
    training: Sequence[Conversation] = ()
    """Conversations of the people that the model learned from."""


def measured(material: Material, settings: MeasureSettings | None = None) -> dict[str, Any]:
    """The table of fidelity.json but for `about`; see docs/fidelity.md for its shape.

    Points that need what is not there are null, with the reason under `left_out`. Raises InputError
    without real people.
    """
    chosen = settings or MeasureSettings()
    check_sides(material.real, material.real)
    table: dict[str, Any] = {"schema": SCHEMA}
    with track("fidelity", total=5, unit="points") as bar:
        table |= _from_scores(material)
        bar.advance()
        table |= _from_simulation(material)
        bar.advance()
        table["two_sample"] = _told_apart(material, chosen.two_sample)
        bar.advance()
        table |= _roles(material)
        bar.advance()
        table["memorisation"] = _memorised(material)
        bar.advance()
    table["left_out"] = _left_out(material)
    table["definitions"] = DEFINITIONS | {"share": SHARE}
    return table | {"summary": summary_rows(table)}


def _from_scores(material: Material) -> dict[str, Any]:
    """Points 1 and 2."""
    real = material.real
    table: dict[str, Any] = {"perplexity": None, "termination": {}}
    if material.scores:
        table["perplexity"] = perplexity_figures(real, material.scores)
        deciding = {k: v for k, v in material.scores.items() if k in ("user_model", "prompted")}
        table["termination"] = ending_figures(real, deciding, material.bias)
    if material.simulated and not _all_cut(real):
        rounds = rounds_figures(material.simulated, real, material.prompted)
        table["termination"]["rounds"] = rounds | {"definition": ROUNDS}
    return table


def _all_cut(real: Sequence[Person]) -> bool:
    """Whether nobody is known to have left: rounds would tell where records break off."""
    return all(c.stop_reason == "cut" for c in conversations_of(real))


def _from_simulation(material: Material) -> dict[str, Any]:
    """Points 3 and 4."""
    if not material.simulated:
        return {"diversity": None, "surface": None}
    sides = material.simulated, material.real, material.prompted
    return {
        "diversity": variety_figures(*sides),
        "surface": habit_figures(*sides, max_turns=_cap(material)),
    }


def _cap(material: Material) -> int | None:
    """User turns of a conversation that are compared: no more than the simulation had rounds."""
    return rounds_cap(conversations_of(material.simulated))


def _told_apart(material: Material, settings: TwoSampleSettings) -> dict[str, Any] | None:
    """Point 5, the baseline's area beside ours."""
    if not material.simulated:
        return None
    person_of = {c.id: p.id for p in material.real for c in p.conversations}
    cap = settings.max_turns or _cap(material)
    wanted = settings.model_copy(update={"max_turns": cap})
    real, simulated = conversations_of(material.real), conversations_of(material.simulated)
    table = two_sample(real, simulated, wanted, person_of, material.training)
    if material.prompted:
        alone = wanted.model_copy(update={"splits": 0, "words": 5})
        theirs = two_sample(real, conversations_of(material.prompted), alone, person_of)
        for part in ("first", "later"):
            for name in settings.classifiers:
                ours, other = table[part][name], theirs[part][name]
                if ours and other:
                    ours["prompted"] = {key: other[key] for key in ("auc", "low", "high")}
    return table


def _roles(material: Material) -> dict[str, Any]:
    """Point 6."""
    if not material.simulated:
        return {"role_adherence": None, "conditions": None, "intents": None}
    sides = material.simulated, material.real, material.prompted
    told = material.briefs
    conditions, intents = condition_figures(sides[0], told), intent_figures(sides[0], told)
    return {
        "role_adherence": role_figures(*sides, material.confusion_of_attempts),
        "conditions": conditions | {"definitions": COMPLIANCE} if conditions else None,
        "intents": intents | {"definitions": COMPLIANCE} if intents else None,
    }


def _memorised(material: Material) -> dict[str, Any] | None:
    """Point 7."""
    if not material.simulated:
        return None
    sides = material.simulated, material.real, material.prompted
    table: dict[str, Any] = {"openers": None, "turns": None, "longest": None}
    if material.training:
        table |= memory_figures(*sides, TrainingTurns(material.training))
    return table | {"personal_data": personal_figures(*sides)}


def _left_out(material: Material) -> dict[str, str]:
    """Points without a figure, and why."""
    table = {}
    if not material.scores:
        table["perplexity"] = "no model was asked"
    if not material.simulated:
        for point in ("diversity", "surface", "two_sample", "role_adherence", "memorisation"):
            table[point] = NO_SIMULATION
        return table
    if _all_cut(material.real):
        table["termination.rounds"] = NO_ENDS
    if not material.training:
        table["memorisation.openers"] = NO_TRAINING
    if not any(brief.profile for brief in material.briefs.values()):
        table["conditions"] = "nobody was told how they write"
    if not any(brief.intent for brief in material.briefs.values()):
        table["intents"] = "nobody was told what they want"
    if not material.prompted:
        table["prompted"] = "no conversations of the baseline"
    return table
