"""A life story as numbered paragraphs: markdown or wiki text in, every later word traced to an id.

Beside `tamsin-orrow.md` may stand `tamsin-orrow.yaml`, with what a prompt needs to know of the
person and statements about the life to probe a model with; all of it is optional.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import yaml
from pydantic import Field, ValidationError

from usersim.errors import InputError
from usersim.settings import Settings

LIVES = Path(__file__).parent / "lives"
FEWEST_WORDS = 4  # a shorter block is a caption or a stray mark, not a part of a life

_HEADING = re.compile(r"^(?:(#{1,6})\s+(.*?)\s*#*|(={2,6})\s*(.*?)\s*={2,6})$")
_NOISE = (
    (re.compile(r"<!--.*?-->", re.DOTALL), ""),
    (re.compile(r"<ref[^>/]*/>|<ref[^>]*>.*?</ref>", re.DOTALL), ""),
    (re.compile(r"</?[a-zA-Z][^<>]*>"), ""),
    (re.compile(r"\[\[(?:File|Image|Category):[^\[\]]*(?:\[\[[^\[\]]*\]\][^\[\]]*)*\]\]"), ""),
    (re.compile(r"\[\[(?:[^|\]]*\|)?([^\]]*)\]\]"), r"\1"),
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), ""),
    (re.compile(r"\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"\[\d+\]|\[citation needed\]"), ""),
    (re.compile(r"'{2,5}|\*\*|__|(?<!\w)[*_]|[*_](?!\w)"), ""),
)
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_YEAR = re.compile(r"(?<!\d)(1\d{3}|20\d{2})(?!\d)")
_BETWEEN = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"'\u2019\u201d]))\s+(?=[\"'\u2018\u201c]?[A-Z0-9])"
)
_ABBREVIATED = re.compile(r"(?:^|\W)(?:Mrs?|Ms|Dr|St|Prof|Sr|Jr|vs|No|[A-Z])\.$")
PRONOUNS = {"she": ("she", "her", "hers", "herself"), "he": ("he", "him", "his", "himself")}


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph of the story. `id` is p01, p02 ... in the file's order."""

    id: str
    text: str
    section: str = ""

    @property
    def sentences(self) -> list[str]:
        """Its sentences, in order; joined with spaces they are the text again."""
        return sentences(self.text)

    @property
    def words(self) -> int:
        """How many words it has."""
        return len(self.text.split())


@dataclass(frozen=True, slots=True)
class Probe:
    """A question with a true and a false answer, in other words than the story's."""

    paragraph: str
    ask: str
    true: str
    false: str


class About(Settings):
    """What stands in the YAML file beside a story."""

    trade: str = Field("", description="what the person does, as in `a clockmaker`")
    place: str = Field("a quiet room", description="where conversations take place by default")
    pronoun: str = Field("", description="she, he or they; default: the story's most frequent")
    last_year: int = Field(0, description="last year they can know of; default: the story's last")
    strangers: tuple[str, ...] = Field((), description="names of people they never knew")
    impostors: tuple[str, ...] = Field((), description="names that they are falsely called by")
    probes: tuple[tuple[str, str, str, str], ...] = Field(
        (), description="[paragraph, question, true answer, false answer]"
    )


@dataclass(frozen=True)
class Profile:
    """A person's story."""

    name: str
    paragraphs: tuple[Paragraph, ...]
    about: About = field(default_factory=About)
    skipped: tuple[str, ...] = ()
    """Blocks that were too short to be a paragraph."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The profile in a file. Raises InputError when it holds none, or its YAML is not right."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the profile {path}: {error}") from error
        name, paragraphs, skipped = parse(text)
        if not paragraphs:
            raise InputError(
                f"{path} holds no paragraph: write `# Name`, then paragraphs with blank lines"
                " between them"
            )
        about = _about(path.with_suffix(".yaml"))
        known = {p.id for p in paragraphs}
        if strange := sorted({row[0] for row in about.probes} - known):
            raise InputError(f"{path.with_suffix('.yaml')}: no paragraph {', '.join(strange)}")
        return cls(name or _named_after(path), paragraphs, about, skipped)

    @cached_property
    def pronoun(self) -> str:
        """What the story calls the person."""
        if self.about.pronoun:
            return self.about.pronoun
        words = Counter(re.findall(r"\b(?:she|he)\b", self.text.casefold()))
        return max(PRONOUNS, key=lambda p: words[p]) if words else "they"

    @cached_property
    def last_year(self) -> int:
        """The last year that the person can know of; 2100 where the story names none."""
        years = [int(y) for y in _YEAR.findall(self.text)]
        return self.about.last_year or max(years, default=2100)

    @cached_property
    def text(self) -> str:
        """All paragraphs."""
        return "\n\n".join(p.text for p in self.paragraphs)

    @property
    def probes(self) -> list[Probe]:
        """The statements to probe a model with."""
        return [Probe(*row) for row in self.about.probes]

    def paragraph(self, number: str) -> Paragraph:
        """The paragraph with this id. Raises KeyError when there is none."""
        return {p.id: p for p in self.paragraphs}[number]


def known_lives() -> list[str]:
    """Names of the stories that come with realchat."""
    return sorted(p.stem for p in LIVES.glob("*.md"))


def find_profile(name: str | Path) -> Profile:
    """The profile of a story, or of a person in a file of personas.

    `name` is a story that comes with realchat, a markdown or wiki file, or a YAML, JSON or JSONL
    file of personas, with `#3` behind it for the third. Raises InputError.
    """
    from assistant.characters.persona_lives import SUFFIXES, persona_profile

    own = LIVES / f"{name}.md"
    file, _, number = str(name).partition("#")
    path = own if str(name) in known_lives() else Path(file)
    if not path.is_file():
        known = ", ".join(known_lives())
        raise InputError(f"no profile {name}: neither a file nor one of {known}")
    if path.suffix in SUFFIXES:
        if number and not number.isdecimal():
            raise InputError(f"{name}: `#{number}` is no number; as {file}#3 for the third")
        return persona_profile(path, int(number or 1))
    return Profile.read(path)


def parse(text: str) -> tuple[str, tuple[Paragraph, ...], tuple[str, ...]]:
    """Name, paragraphs, and blocks too short to be one, of markdown or wiki text."""
    name = section = ""
    found: list[tuple[str, str]] = []
    skipped = []
    for block in re.split(r"\n\s*\n", _plain(text)):
        lines = []
        for line in filter(None, map(str.strip, block.splitlines())):
            if heading := _HEADING.match(line):
                title = heading[2] or heading[4] or ""
                name, section = (title, "") if not name and heading[1] == "#" else (name, title)
            else:
                lines.append(re.sub(r"^(?:[-*+>#:;]+|\d+\.)\s+", "", line))
        body = " ".join(" ".join(lines).split())
        if len(body.split()) >= FEWEST_WORDS:
            found.append((section, body))
        elif body:
            skipped.append(body)
    digits = max(2, len(str(len(found))))
    made = tuple(Paragraph(f"p{n:0{digits}}", b, s) for n, (s, b) in enumerate(found, 1))
    return name, made, tuple(skipped)


def sentences(text: str) -> list[str]:
    """Sentences of a paragraph. A full stop after a title or an initial ends none."""
    pieces: list[str] = []
    for piece in _BETWEEN.split(text):
        if pieces and _ABBREVIATED.search(pieces[-1]):
            pieces[-1] += " " + piece
        else:
            pieces.append(piece)
    return [p for p in pieces if p.strip()]


def _plain(text: str) -> str:
    """Without the marks of markdown and wikis; templates may be nested."""
    text = text.replace("\r\n", "\n")
    for _ in range(20):
        shorter = _TEMPLATE.sub("", text)
        if shorter == text:
            break
        text = shorter
    for pattern, replacement in _NOISE:
        text = pattern.sub(replacement, text)
    return text


def _about(path: Path) -> About:
    if not path.is_file():
        return About()
    try:
        return About.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise InputError(f"{path} does not describe a character: {error}") from error


def _named_after(path: Path) -> str:
    return path.stem.replace("-", " ").replace("_", " ").title()
