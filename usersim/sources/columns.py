"""A layout that the caller describes: which column holds what, and who is called what."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, model_validator

from usersim.conversation import Role
from usersim.settings import Settings
from usersim.sources.draft import BadRecord
from usersim.sources.turns import Reading, alternating, named, names_in, rows_in, spoken

Names = str | tuple[str, ...]


class ColumnMap(Settings):
    """Where a record of a corpus that we do not know holds what."""

    messages: str = Field("messages", description="column with the list of messages")
    role: str | None = Field(
        "role",
        description="key that names who speaks; null: the list holds texts, the user's comes first",
    )
    content: str = Field("content", description="key of a message that holds its text")
    user: Names = Field("user", description="what the user is called, one name or a list")
    assistant: Names = Field("assistant", description="what the assistant is called")
    system: Names = Field("system", description="what the system message is called")
    id: str | None = Field(None, description="column with the conversation's id")
    person: str | None = Field(None, description="column that tells who the user is")
    license: str | None = Field(None, description="column with the license of each row")

    @model_validator(mode="after")
    def _names_differ(self) -> "ColumnMap":
        given = [name for name, _ in self._named()]
        twice = sorted({name for name in given if given.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands for two roles")
        return self

    @property
    def roles(self) -> dict[str, Role]:
        """Our role of each foreign name."""
        return dict(self._named())

    def _named(self) -> Iterator[tuple[str, Role]]:
        given: dict[Role, Names] = {
            "user": self.user,
            "assistant": self.assistant,
            "system": self.system,
        }
        for role, names in given.items():
            for name in (names,) if isinstance(names, str) else names:
                yield name, role

    def read(self, record: Mapping[str, Any]) -> Reading:
        """The conversation in a record. Raises BadRecord, `unknown_shape` without the column."""
        if record.get(self.messages) is None:
            detail = f"no column {self.messages!r} (ingest.columns.messages) in {names_in(record)}"
            raise BadRecord("unknown_shape", detail)
        rows = rows_in(record, self.messages)
        if self.role is None:
            return Reading(alternating(rows), persons=self._person(record))
        return Reading(
            spoken(rows, (self.role, self.content), self.roles), persons=self._person(record)
        )

    def _person(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        return named([record.get(self.person)] if self.person else [])
