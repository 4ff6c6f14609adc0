"""Personal data found by presidio as well: names and places, which have no form of their own.

The extra `pii` installs presidio. Names and places need a spaCy model, which the user names;
without one presidio's patterns work alone. What `usersim.personal_data` finds by form is found as
ever, and what it knows to be nobody's (reserved domains, test cards, a corpus's placeholders)
stays, whoever points at it. The kinds are its kinds, so that masks look the same. Nothing is
downloaded.
"""

from functools import lru_cache
from typing import Any

from pydantic import Field

from usersim import personal_data
from usersim.errors import InputError, WorldError
from usersim.personal_data import PLACEHOLDER, Found, apart
from usersim.settings import Settings

KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "US_SSN": "ssn",
    "PERSON": "name",
    "LOCATION": "address",
}
"""Presidio's names for what has a mask of its own; everything else is masked as [REDACTED]."""


class PresidioSettings(Settings):
    """What presidio looks for, and with which model."""

    model: str = Field(
        "", description="an installed spaCy model or its folder; empty: patterns only, no names"
    )
    language: str = Field("en", description="of the texts, as presidio and spaCy name it")
    entities: tuple[str, ...] = Field(
        tuple(kind for kind in KINDS if kind != "LOCATION"),
        min_length=1,
        description="presidio's entities; LOCATION would mask every city and country too",
    )
    min_score: float = Field(
        0.4, ge=0, le=1, description="presidio's certainty; a telephone number has 0.4, a name 0.85"
    )


class PresidioFinder:
    """Finds what presidio is told to look for, besides what has a form. Takes seconds to open.

    Raises WorldError when presidio is not installed, InputError for a model that is not.
    """

    def __init__(self, settings: PresidioSettings) -> None:
        try:
            import presidio_analyzer
        except ImportError as error:
            raise WorldError(
                "curate.filters.personal_data_finder: presidio is not installed:"
                " pip install 'realchat[pii]', or take the finder `light`"
            ) from error
        _stay_offline()
        self._settings = settings
        self._analyzer: Any = presidio_analyzer.AnalyzerEngine(
            nlp_engine=_nlp_engine(settings), supported_languages=[settings.language]
        )
        self._entities = _known_entities(self._analyzer, settings)

    def find(self, text: str) -> list[Found]:
        """The places that hold personal data, in order, none overlapping another."""
        results = self._analyzer.analyze(
            text=text,
            language=self._settings.language,
            entities=self._entities,
            score_threshold=self._settings.min_score,
        )
        named = [Found(KINDS.get(r.entity_type, "redacted"), r.start, r.end) for r in results]
        nobodys = [m.span() for m in PLACEHOLDER.finditer(text)]
        told = [
            place
            for place in named
            if personal_data.is_somebodys(place.kind, text[place.start : place.end])
            and not any(start < place.end and place.start < end for start, end in nobodys)
        ]
        found = [*personal_data.find(text), *told]
        return list(apart(sorted(found, key=lambda f: (f.start, -f.end))))


@lru_cache(maxsize=2)
def presidio_finder(settings: PresidioSettings) -> PresidioFinder:
    """The finder of these settings: one a process."""
    return PresidioFinder(settings)


def _known_entities(analyzer: Any, settings: PresidioSettings) -> list[str]:
    """The entities that can be found; those that need a model are left out where there is none."""
    known = set(analyzer.get_supported_entities(language=settings.language))
    model_only = {"PERSON", "LOCATION", "NRP", "DATE_TIME", "ORGANIZATION"}
    wanted = [e for e in settings.entities if settings.model or e not in model_only]
    if unknown := [e for e in wanted if e not in known]:
        raise InputError(
            f"curate.filters.presidio.entities: presidio finds no {', '.join(unknown)};"
            f" it knows {', '.join(sorted(known))}"
        )
    return wanted


def _nlp_engine(settings: PresidioSettings) -> Any:
    """SpaCy for presidio: the named model, or a pipeline that only cuts texts into words."""
    import spacy
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine

    # Presidio would try to download a model that is not there, so it is given one that is loaded.
    engine: Any = SpacyNlpEngine(ner_model_configuration=NerModelConfiguration())
    try:
        model = spacy.load(settings.model) if settings.model else spacy.blank(settings.language)
    except OSError as error:
        raise InputError(
            f"curate.filters.presidio.model: spaCy has no model {settings.model!r}; install one"
            " (python -m spacy download en_core_web_sm), name a folder, or leave it empty"
        ) from error
    engine.nlp = {settings.language: model}
    return engine


def _stay_offline() -> None:
    """Presidio asks tldextract which domains there are, and that would fetch a list."""
    import tldextract

    library: Any = tldextract
    library.extract = library.TLDExtract(suffix_list_urls=(), cache_dir=None)
