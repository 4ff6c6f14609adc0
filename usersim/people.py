"""Real people's conversations: read, merged, cleaned, deduplicated and split. Nothing vanishes."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any, TypeVar

from pydantic import Field

from usersim.cleaning import Cleaner, CleaningSettings, outside_code
from usersim.conversation import Conversation, Rejection
from usersim.errors import InputError
from usersim.files import write_conversations, write_json, write_rejections
from usersim.funnel import FunnelStage
from usersim.language import MODEL_FILE, UNDETERMINED, Language, LanguageId
from usersim.merging import merge
from usersim.neardup import Alike, Pair, alike, clusters, components
from usersim.progress import Track, track
from usersim.shingling import Shingling
from usersim.sources import Draft, Source, SourceSettings

SPLITS = ("train", "dev", "test")
PERSONS = "persons.json"
"""Which held-out conversations are one person's, beside the splits; nobody is named."""
Result = TypeVar("Result")
SURE = 0.9
"""A user side is in another language when the model is this sure of it."""


class IngestSettings(SourceSettings):
    """Where real conversations come from and which of them are kept."""

    language: str | None = "en"
    """Only conversations whose user speaks this language (ISO 639-1); null keeps all."""
    limit: int | None = Field(None, ge=1)
    """At most so many conversations, chosen by the hash of their ids; null takes all."""
    dev: int = Field(100, ge=0)
    """Conversations held out for choices, at most a tenth of all."""
    test: int = Field(300, ge=0)
    """Conversations held out for the final figures, at most a fifth of all."""
    shingle_words: int = Field(3, ge=1)
    """Words in a shingle; openers are short, three find edits of 5 % of the words."""
    opener_threshold: float = Field(0.6, gt=0, le=1)
    """Of openers that are at least this similar (Jaccard) one conversation is kept."""
    user_threshold: float = Field(0.6, gt=0, le=1)
    """The same for all user turns together."""
    split_threshold: float = Field(0.4, gt=0, le=1)
    """Conversations that have a neighbour this similar anywhere stay in train."""
    seed: int = 0
    """Chooses another split of the same conversations."""
    cleaning: CleaningSettings = CleaningSettings()
    """What cleaning refuses."""

    def held_out_of(self, number: int) -> dict[str, int]:
        """How many of so many conversations are to be held out."""
        return {"test": min(self.test, number // 5), "dev": min(self.dev, number // 10)}

    @property
    def thresholds(self) -> dict[str, float]:
        """Of each view the similarity from which two conversations are duplicates."""
        return {"opener": self.opener_threshold, "user_side": self.user_threshold}


def _opener(conversation: Conversation) -> str:
    return conversation.opener


def _user_side(conversation: Conversation) -> str:
    return "\n".join(conversation.user_turns)


_VIEWS: dict[str, Callable[[Conversation], str]] = {"opener": _opener, "user_side": _user_side}
"""What near-duplicates are looked for in; each is a stage of its own."""


@dataclass(slots=True)
class Funnel:
    """The stages so far and everything that was rejected on the way."""

    stages: list[FunnelStage] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)

    def enter(self, stage: FunnelStage, rejected: Sequence[Rejection]) -> None:
        """Add one stage and what it rejected."""
        self.stages.append(stage)
        self.rejected += rejected


def ingest(settings: IngestSettings, out: Path) -> dict[str, Any]:
    """Write out/{train,dev,test,rejected}.parquet and out/persons.json; return what was done.

    Returned are `funnel` (one entry a stage), `splits` (conversations in each), `wanted` (how many
    were to be held out; fewer are when too many people resemble each other), `source`, `files`
    (what was read: records, bytes and SHA-256 of each), `license`, `persons` (how many different
    ones the source names among the kept), `mended` (texts changed, by kind of debris) and `people`
    (a summary of the kept).
    The same source and settings give the same bytes. Raises InputError when the source cannot be
    read or nothing of it is kept, WorldError when the disk refuses.
    """
    funnel, cleaner, source = Funnel(), Cleaner(settings.cleaning), Source(settings)
    with track("ingest", total=8, unit="stages") as bar:
        drafts = _step(bar, "read", lambda: _read(source, funnel))
        merged = _step(bar, "merge", lambda: _merge(settings, drafts, funnel))
        cleaned = _step(bar, "clean", lambda: _clean(merged, cleaner, funnel))
        spoken = _step(bar, "language", lambda: _speaking(settings, cleaned, funnel))
        neighbours = _step(bar, "compare", lambda: _compare(settings, spoken))
        kept = _step(bar, "duplicates", lambda: _distinct(settings, neighbours, funnel))
        people = Persons({draft.id: draft.persons for draft in merged})
        splits = _step(bar, "split", lambda: _split(settings, neighbours, kept, people))
        _step(bar, "write", lambda: _write(out, splits, funnel, people))
    if not kept:
        raise InputError(_nothing_kept(settings, out, funnel))
    distinct = [spoken[n] for n in kept]
    return {
        "funnel": [stage.to_dict() for stage in funnel.stages],
        "splits": {name: len(splits[name]) for name in SPLITS},
        "wanted": settings.held_out_of(len(kept)),
        "source": settings.source,
        "files": [file.to_dict() for file in source.files],
        "license": ", ".join(sorted({c.license for c in distinct})),
        "persons": people.count(c.id for c in distinct),
        "mended": {kind: n for kind, n in sorted(cleaner.mended.items()) if n},
        "people": summary(distinct),
    }


def summary(conversations: Sequence[Conversation]) -> dict[str, Any]:
    """How long people talk: rounds, words of first and later user turns, and how it ended."""
    first = [len(c.opener.split()) for c in conversations]
    later = [len(text.split()) for c in conversations for text in c.user_turns[1:]]
    return {
        "conversations": len(conversations),
        "rounds": _spread([c.num_rounds for c in conversations]),
        "first_turn_words": _spread(first),
        "later_turn_words": _spread(later),
        "stop_reasons": dict(sorted(Counter(str(c.stop_reason) for c in conversations).items())),
    }


def _spread(values: Sequence[int]) -> dict[str, float]:
    if not values:
        return {"mean": 0.0, "median": 0.0, "max": 0}
    return {"mean": round(mean(values), 2), "median": median(values), "max": max(values)}


def _nothing_kept(settings: IngestSettings, out: Path, funnel: Funnel) -> str:
    if not funnel.rejected:
        return f"{settings.source} holds no records: there is nothing to learn from"
    counts = Counter(r.reason for r in funnel.rejected).most_common()
    reasons = ", ".join(f"{reason} {n}" for reason, n in counts)
    where = out / "rejected.parquet"
    first = next(r for r in funnel.rejected if r.reason == counts[0][0])
    example = f"\n  {first.reason}: {first.detail}" if first.detail else ""
    return f"no conversation of {settings.source} was kept: {reasons}; each is in {where}{example}"


def _step(bar: Track, name: str, work: Callable[[], Result]) -> Result:
    bar.note(name)
    result = work()
    bar.advance()
    return result


def _read(source: Source, funnel: Funnel) -> list[Draft]:
    """Drafts; the stage counts records, of which a tree of replies takes several a draft."""
    found = list(source)
    drafts = [record for record in found if isinstance(record, Draft)]
    rejected = [record for record in found if isinstance(record, Rejection)]
    num_kept = sum(draft.num_records for draft in drafts)
    reasons = dict(sorted(Counter(r.reason for r in rejected).items()))
    num_in = num_kept + len(rejected)
    funnel.enter(FunnelStage("read", num_in, num_kept, reasons, "records"), rejected)
    return drafts


def _merge(settings: IngestSettings, drafts: Sequence[Draft], funnel: Funnel) -> list[Draft]:
    """Whole conversations; the stage counts records, and keeps those that are in one."""
    merged = merge(drafts, [r.id for r in funnel.rejected])
    reasons = dict(Counter(r.reason for r in merged.rejected))
    unit = "records" if all(draft.num_records == 1 for draft in drafts) else "paths"
    stage = FunnelStage("merge", len(drafts), merged.num_joined, reasons, unit)
    funnel.enter(stage, merged.rejected)
    found = merged.conversations
    if settings.limit is None or len(found) <= settings.limit:
        return found
    chosen = {d.id for d in sorted(found, key=_by_hash(settings))[: settings.limit]}
    kept = [draft for draft in found if draft.id in chosen]
    over = [draft.reject("limit", "over_limit") for draft in found if draft.id not in chosen]
    funnel.enter(FunnelStage.of("limit", len(found), kept, over), over)
    return kept


def _clean(drafts: Sequence[Draft], cleaner: Cleaner, funnel: Funnel) -> list[Conversation]:
    results = [as_conversation(cleaner.clean(draft)) for draft in drafts]
    kept = [result for result in results if isinstance(result, Conversation)]
    rejected = [result for result in results if isinstance(result, Rejection)]
    funnel.enter(FunnelStage.of("clean", len(drafts), kept, rejected), rejected)
    return kept


def as_conversation(cleaned: Draft | Rejection) -> Conversation | Rejection:
    """The record of a cleaned draft, or why there is none."""
    if isinstance(cleaned, Rejection):
        return cleaned
    try:
        return Conversation(
            id=cleaned.id,
            messages=cleaned.messages,
            source=cleaned.source,
            license=cleaned.license,
            stop_reason=cleaned.stop_reason,
        )
    except InputError as error:
        return cleaned.reject("clean", error.args[1], error.args[0])


def _speaking(
    settings: IngestSettings, conversations: Sequence[Conversation], funnel: Funnel
) -> list[Conversation]:
    """Conversations in the language; where a user side cannot tell, the answers do.

    Code, "hi" and product names mislead: of 43 user sides said to be in another language with less
    than 0.9, 34 were answered in English (measured on the embedded conversations).
    """
    if settings.language is None:
        return list(conversations)
    identify = LanguageId()
    if settings.language not in identify.codes:
        raise InputError(
            f"ingest.language={settings.language} is no code that {MODEL_FILE} knows: en, de, zh "
            "(ISO 639-1, in small letters); null keeps every language"
        )
    found = identify.detect([_user_side(c) for c in conversations])
    doubtful = [n for n, told in enumerate(found) if _is_doubtful(told, settings.language)]
    answers = [outside_code("\n".join(conversations[n].assistant_turns)) for n in doubtful]
    for n, language in zip(doubtful, identify.detect(answers), strict=True):
        found[n] = language
    kept, rejected = [], []
    for conversation, language in zip(conversations, found, strict=True):
        if language.code == settings.language:
            kept.append(conversation)
            continue
        reason = "unknown_language" if language.code == UNDETERMINED else "other_language"
        detail = f"{language.code} {language.probability:.2f}"
        rejected.append(Rejection.of(conversation, "language", reason, detail))
    funnel.enter(FunnelStage.of("language", len(conversations), kept, rejected), rejected)
    return kept


def _is_doubtful(told: Language, wanted: str) -> bool:
    return told.code == UNDETERMINED or (told.code != wanted and told.probability < SURE)


@dataclass(slots=True)
class Neighbours:
    """Near-duplicates among `conversations`, by what is compared; down to the loosest threshold."""

    conversations: list[Conversation]
    pairs: dict[str, Alike]

    def groups(self, threshold: float, *names: str) -> list[list[int]]:
        """Clusters of positions by the pairs of these names at or above a threshold."""
        near = [self.pairs[name].reaching(threshold) for name in names]
        return components(len(self.conversations), near)


def _compare(settings: IngestSettings, conversations: list[Conversation]) -> Neighbours:
    """One comparison, at the loosest threshold, serves both the duplicates and the split."""
    shingling, found = Shingling(settings.shingle_words), dict[str, Alike]()
    for name, view in _VIEWS.items():
        loosest = min(settings.thresholds[name], settings.split_threshold)
        found[name] = alike([view(c) for c in conversations], loosest, shingling)
    return Neighbours(conversations, found)


def _distinct(settings: IngestSettings, neighbours: Neighbours, funnel: Funnel) -> list[int]:
    """Positions of the best conversation of every cluster, first by openers, then by user sides."""
    kept = list(range(len(neighbours.conversations)))
    for name in _VIEWS:
        num_in, alive = len(kept), set(kept)
        groups = neighbours.groups(settings.thresholds[name], name)
        living = [[n for n in members if n in alive] for members in groups]
        kept, rejected = _best_of_clusters(neighbours.conversations, living, name)
        funnel.enter(FunnelStage.of(f"{name}s", num_in, kept, rejected), rejected)
    return kept


def _best_of_clusters(
    conversations: Sequence[Conversation], groups: Iterable[Sequence[int]], name: str
) -> tuple[list[int], list[Rejection]]:
    """Of every cluster the conversation with most rounds; the others rejected, naming it."""
    view, kept, rejected = _VIEWS[name], [], []
    for members in filter(None, groups):
        best = max(members, key=lambda n: _worth(conversations[n]))
        kept.append(best)
        for conversation in (conversations[n] for n in members if n != best):
            same = view(conversation) == view(conversations[best])
            reason = f"same_{name}" if same else f"similar_{name}"
            detail = f"in a cluster of {len(members)} with {conversations[best].id}"
            rejected.append(Rejection.of(conversation, f"{name}s", reason, detail))
    return sorted(kept), rejected


def _worth(conversation: Conversation) -> tuple[int, bool, str]:
    whole = conversation.stop_reason == "user_ended"
    return len(conversation.user_turns), whole, conversation.id


@dataclass(frozen=True, slots=True)
class Persons:
    """Who the user of a conversation is, by its id, where the source tells."""

    of: Mapping[str, Sequence[str]]

    def count(self, ids: Iterable[str]) -> int:
        """How many different persons the conversations with these ids name."""
        return len({person for name in ids for person in self.of.get(name, ())})

    def units(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Positions by person: conversations that share one, directly or not, stay together."""
        pairs, last = [], dict[str, int]()
        for n, conversation in enumerate(conversations):
            for person in self.of.get(conversation.id, ()):
                if person in last:
                    pairs.append(Pair(last[person], n, 1.0))
                last[person] = n
        return clusters(len(conversations), pairs)

    def several(self, conversations: Sequence[Conversation]) -> dict[str, str]:
        """By id, a number for the person of those whose person held others of them as well."""
        shared = [unit for unit in self.units(conversations) if len(unit) > 1]
        return {conversations[n].id: f"person {k}" for k, unit in enumerate(shared) for n in unit}


def _split(
    settings: IngestSettings, neighbours: Neighbours, kept: Sequence[int], persons: Persons
) -> dict[str, list[Conversation]]:
    """Test and dev from people without a kept neighbour among others, by the hash of their ids.

    All conversations of a person go to the same split; one who has more than are still wanted is
    passed over.
    """
    found, by_hash = neighbours.conversations, _by_hash(settings)
    free = _free_units(settings, neighbours, kept, persons)
    free.sort(key=lambda unit: by_hash(min((found[n] for n in unit), key=lambda c: c.id)))
    held: dict[int, str] = {}
    for name, room in settings.held_out_of(len(kept)).items():
        left = [unit for unit in free if unit[0] not in held]
        held |= dict.fromkeys(_fitting(left, room), name)
    splits: dict[str, list[Conversation]] = {name: [] for name in SPLITS}
    for n in kept:
        splits[held.get(n, "train")].append(found[n])
    return splits


def _fitting(units: Iterable[Sequence[int]], room: int) -> Iterator[int]:
    """Members of whole units, the first ones that find room."""
    for unit in units:
        if len(unit) <= room:
            room -= len(unit)
            yield from unit


def _free_units(
    settings: IngestSettings, neighbours: Neighbours, kept: Sequence[int], persons: Persons
) -> list[list[int]]:
    """Kept conversations, by person, of those who have no near-duplicate among other people's."""
    alive = set(kept)
    units = [[n for n in unit if n in alive] for unit in persons.units(neighbours.conversations)]
    unit_of = {n: number for number, unit in enumerate(units) for n in unit}
    bound: set[int] = set()
    for members in neighbours.groups(settings.split_threshold, *_VIEWS):
        touched = {unit_of[n] for n in members if n in alive}
        bound |= touched if len(touched) > 1 else set()
    return [unit for number, unit in enumerate(units) if unit and number not in bound]


def _by_hash(settings: IngestSettings) -> Callable[[Draft | Conversation], bytes]:
    """An order of records that depends on nothing but their ids and the seed."""
    return lambda record: hashlib.sha256(f"{settings.seed}:{record.id}".encode()).digest()


def _write(
    out: Path, splits: dict[str, list[Conversation]], funnel: Funnel, people: Persons
) -> None:
    if any(splits.values()):
        for name, conversations in splits.items():
            write_conversations(out / f"{name}.parquet", conversations)
        write_json(out / PERSONS, people.several([*splits["dev"], *splits["test"]]))
    write_rejections(out / "rejected.parquet", funnel.rejected)
