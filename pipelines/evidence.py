"""What models and other data tell of a conversation, and the rules that judge by it.

The rules in `pipelines.filters` read only the conversation. These read evidence, which somebody has
gathered before (`pipelines.judging`), so that they stay small and pure as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assistant.scoring import Scored
    from pipelines.filters import FilterSettings
    from usersim.language import Language
    from usersim.memorisation import Recall


@dataclass(frozen=True, slots=True)
class Evidence:
    """None where nobody asked."""

    language: "Language | None" = None
    contaminated: str | None = None
    """Which benchmark question it holds, and how closely."""
    recall: "Recall | None" = None
    """What the user repeats of the people from whom the simulator learned."""
    quality: float | None = None
    """The quality model's score of the user's turns, 0 to 1: as people write."""
    toxicity: float | None = None
    """The toxicity model's score of the worst turn, 0 to 1."""
    judged: "Scored | None" = None
    """What the judge said of the conversation (`curate.judge`)."""


EvidenceRule = Callable[[Evidence, "FilterSettings"], str | None]


def foreign_language(evidence: Evidence, settings: "FilterSettings") -> str | None:
    """The user's turns, taken together, are in a language that the corpus does not want.

    Texts too short to tell (`und`) and doubtful ones are kept: a rule by turn loses 87 % of
    English turns under ten characters.
    """
    language = evidence.language
    if language is None or language.code == "und":
        return None
    known = language.probability >= settings.min_language_probability
    if known and settings.languages and language.code not in settings.languages:
        return f"{language.code} ({language.probability:.2f})"
    return None


def contaminated(evidence: Evidence, _: "FilterSettings") -> str | None:
    """A turn holds a question of a benchmark, verbatim or edited."""
    return evidence.contaminated


def memorised(evidence: Evidence, _: "FilterSettings") -> str | None:
    """The user repeats the words of a person from whom the simulator learned."""
    return evidence.recall.found if evidence.recall else None


def low_quality(evidence: Evidence, settings: "FilterSettings") -> str | None:
    """The quality model's score is below the recipe's threshold."""
    if evidence.quality is None or settings.min_quality is None:
        return None
    score = evidence.quality
    return f"quality {score:.3f}" if score < settings.min_quality else None


def toxic(evidence: Evidence, settings: "FilterSettings") -> str | None:
    """The toxicity model's score of a turn is above the recipe's threshold."""
    if evidence.toxicity is None or settings.max_toxicity is None:
        return None
    return (
        f"toxicity {evidence.toxicity:.3f}" if evidence.toxicity > settings.max_toxicity else None
    )


def low_judge_score(evidence: Evidence, settings: "FilterSettings") -> str | None:
    """The judge's score is below the recipe's threshold."""
    judged = evidence.judged
    if judged is None or judged.score is None or settings.min_judge_score is None:
        return None
    low = judged.score < settings.min_judge_score
    return f"judged {judged.score:g}: {judged.reason}".rstrip(": ") if low else None


def unscored(evidence: Evidence, settings: "FilterSettings") -> str | None:
    """The judge was asked and gave nothing that is a score, where the recipe wants one."""
    judged = evidence.judged
    missing = settings.drop_unscored and judged is not None and judged.score is None
    return judged.outcome if missing and judged else None


EVIDENCE_RULES: dict[str, EvidenceRule] = {
    rule.__name__: rule
    for rule in (
        foreign_language, contaminated, memorised, low_quality, toxic, low_judge_score, unscored,
    )
}  # fmt: skip
"""Every rule by its reason, after those that read the conversation alone."""
