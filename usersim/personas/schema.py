"""The persona record, version 1: four aspects that somebody chooses, and the person around them.

A file holds one persona (YAML or JSON), or one a line (`.jsonl`). Whoever writes one by hand needs
the four aspects only; `usersim.personas.factory.complete` makes up the rest, the same under the
same seed.

    career: night baker
    aspiration: open a bakery that trains apprentices
    traits: [stubborn, warm-hearted]
    skills: [sourdough, mental arithmetic]
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator

from usersim.errors import InputError
from usersim.files import fingerprint, write_text
from usersim.settings import Settings

Model = TypeVar("Model", bound=Settings)

MOST_CHARACTERS = 200  # of one attribute: a persona is a page, not a novel

Gender = Literal["woman", "man", "nonbinary"]
Capitals = Literal["none", "usual"]
Punctuation = Literal["none", "full"]
TurnLength = Literal["short", "medium", "long"]
Formality = Literal["casual", "neutral", "formal"]
Share = Literal["never", "sometimes", "often"]
Fluency = Literal["native", "fluent", "learning"]
GENDERS: tuple[Gender, ...] = get_args(Gender)


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise ValueError("must say something")
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"must be at most {MOST_CHARACTERS} characters, not {len(text)}")
    return text


def _one_item(text: str) -> str:
    if ";" in text:
        raise ValueError("must be one item: write a list, not items with a semicolon between")
    return _one_line(text)


def _no_item_twice(items: tuple[str, ...]) -> tuple[str, ...]:
    folded = [item.casefold() for item in items]
    if len(set(folded)) < len(folded):
        raise ValueError("must not say the same twice")
    return items


Line = Annotated[str, AfterValidator(_one_line)]
"""A phrase: white space is folded, so that it is one line; 1 to 200 characters."""
Items = Annotated[
    tuple[Annotated[str, AfterValidator(_one_item)], ...],
    Field(min_length=1, max_length=8),
    AfterValidator(_no_item_twice),
]
"""One to eight phrases without a semicolon, none twice (whatever the case)."""


class Personal(Settings):
    """Who the person is."""

    name: Line = Field(description="given name and family name")
    gender: Gender = Field(description="woman, man or nonbinary")
    age: int = Field(ge=18, le=99, description="in years; personas are adults")
    origin: Line = Field(description="the culture or region that they grew up in")
    tone: Line = Field(description="how they sound when they speak")
    personality: Line = Field(description="what it is like to be with them")
    strengths: Items = Field(description="what they are good at being")
    weaknesses: Items = Field(description="what they struggle with")
    hobbies: Items = Field(description="what they do when nobody asks them to")


class Social(Settings):
    """Who is around the person, and where."""

    family: Line = Field(description="parents, partner, children")
    relationships: Line = Field(description="friends, colleagues, rivals")
    living: Line = Field(description="home and circumstances")
    community: Line = Field(description="the group that they belong to")
    education: Line = Field(description="where they learned what they know")


class Language(Settings):
    """What the person speaks."""

    first: Line = Field("English", description="first language")
    others: tuple[Line, ...] = Field((), max_length=6, description="further languages")
    english: Fluency = Field("native", description="native, fluent or learning")


class WritingStyle(Settings):
    """How the person types to an assistant. `usersim.surface` can measure each of these."""

    capitals: Capitals = Field("usual", description="none: no capital begins a message")
    punctuation: Punctuation = Field("full", description="none: messages end without a mark")
    length: TurnLength = Field(
        "medium", description="words in a message: short up to 8, medium 9 to 25, long above"
    )
    formality: Formality = Field("neutral", description="casual, neutral or formal")
    politeness: Share = Field("sometimes", description="how often they say please or thanks")
    emoji: Share = Field("never", description="how often they use one")


class Aspects(Settings):
    """The four aspects: all that somebody must choose of a person."""

    career: Line = Field(description="what they do for a living")
    aspiration: Line = Field(description="what they want to have done with their life")
    traits: Items = Field(description="what they are like, in a word each")
    skills: Items = Field(description="what they can do")


class Persona(Aspects):
    """A whole person. `usersim.personas.prose` writes it as prose and reads that back."""

    version: Literal[1] = Field(1, description="of this schema")
    personal: Personal = Field(description="who they are")
    social: Social = Field(description="who is around them, and where")
    language: Language = Field(Language(), description="what they speak")
    style: WritingStyle = Field(WritingStyle(), description="how they type")

    @property
    def id(self) -> str:
        """The same for the same person: the name, and 8 hex digits of everything."""
        name = re.sub(r"\W+", "-", self.personal.name.casefold())[:60].strip("-") or "persona"
        return f"{name}-{fingerprint(self.model_dump(mode='json'))[:8]}"

    @property
    def name(self) -> str:
        """Given name and family name."""
        return self.personal.name

    @property
    def first_name(self) -> str:
        """The first word of the name."""
        return self.personal.name.split()[0]

    def to_row(self) -> dict[str, Any]:
        """Plain values, the id first; `from_row` undoes it."""
        return {"id": self.id, **self.model_dump(mode="json")}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The persona of a row. Raises InputError naming every problem, or an id of another one."""
        persona = _checked(cls, {key: row[key] for key in row if key != "id"})
        if "id" in row and row["id"] != persona.id:
            raise InputError(
                f"the persona {row['id']!r} was changed after its id was made: leave out `id`"
            )
        return persona


class PersonaDraft(Aspects):
    """What somebody wrote of a person: the four aspects, and any part of the rest."""

    version: Literal[1] = Field(1, description="of this schema")
    personal: dict[str, Any] = Field({}, description="any fields of `Personal`")
    social: dict[str, Any] = Field({}, description="any fields of `Social`")
    language: dict[str, Any] = Field({}, description="any fields of `Language`")
    style: dict[str, Any] = Field({}, description="any fields of `WritingStyle`")

    @field_validator("personal", "social", "language", "style")
    @classmethod
    def _known_fields(cls, part: dict[str, Any], info: Any) -> dict[str, Any]:
        model = PARTS[info.field_name]
        if unknown := sorted(set(part) - set(model.model_fields)):
            known = ", ".join(model.model_fields)
            raise ValueError(f"unknown key {unknown[0]!r}; known here: {known}")
        return part


PARTS: dict[str, type[Settings]] = {
    "personal": Personal,
    "social": Social,
    "language": Language,
    "style": WritingStyle,
}


def draft_of(table: Mapping[str, Any]) -> PersonaDraft:
    """What a plain table says of a person. Raises InputError naming every problem."""
    return _checked(PersonaDraft, {key: table[key] for key in table if key != "id"})


def json_schema() -> dict[str, Any]:
    """The JSON schema of a whole persona, for editors, servers and constrained decoding."""
    return Persona.model_json_schema()


def read_tables(path: Path) -> list[dict[str, Any]]:
    """The tables of a .yaml, .json or .jsonl file. Raises InputError when it holds none."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            found: Any = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"cannot read {path} as {path.suffix[1:] or 'YAML'}: {error}") from error
    tables = found if isinstance(found, list) else [found]
    if not tables or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{path} must hold a table of keys, or a list of such tables")
    return tables


def read_personas(path: Path) -> list[Persona]:
    """The whole personas of a file. Raises InputError where one is not whole."""
    return [Persona.from_row(table) for table in read_tables(path)]


def write_personas(path: Path, personas: Iterable[Persona]) -> None:
    """Write personas, one JSON object a line, whole or not at all."""
    lines = (json.dumps(p.to_row(), ensure_ascii=False) for p in personas)
    write_text(path, "".join(f"{line}\n" for line in lines))


def _checked(model: type[Model], table: Mapping[str, Any]) -> Model:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        problems = [
            f"  {'.'.join(map(str, p['loc'])) or 'persona'}: {p['msg']}" for p in error.errors()
        ]
        raise InputError("\n".join(["this is not a persona:", *problems])) from error
