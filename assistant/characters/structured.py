"""Structured answers: a pydantic table is the schema that is asked for, and the check afterwards.

An engine that decodes under a grammar cannot answer anything else; one that does not is checked all
the same. What does not fit is refused with a reason, never repaired and never searched for digits.
"""

import json
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from usersim.engine import Completion

RefusedReason = Literal["cut_off", "not_json", "wrong_fields", "out_of_range"]
_RANGES = ("less_than", "greater_than", "literal_error", "too_short", "too_long", "enum")


class Form(BaseModel):
    """Base of every table that a model fills in: nothing in it comes from elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Table = TypeVar("Table", bound=Form)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an answer is not what was asked for."""

    reason: RefusedReason
    detail: str


def schema_of(table: type[Form]) -> str:
    """The JSON schema that goes into `Sampling.schema`.

    Fields keep their order: a grammar writes them in it, and an answer comes after its question.
    """
    return json.dumps(table.model_json_schema())


def read_answer(completion: Completion, table: type[Table]) -> Table | Refused:
    """The table in an answer, or why there is none.

    The whole answer must be one JSON object with exactly the table's fields; types are not bent.
    """
    try:
        found = json.loads(completion.text)
    except ValueError as error:
        cut = completion.finish_reason == "length"
        return Refused("cut_off" if cut else "not_json", f"{error}: {completion.text[:120]!r}")
    try:
        return table.model_validate_json(json.dumps(found), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "answer"
        outside = any(sign in first["type"] for sign in _RANGES)
        return Refused("out_of_range" if outside else "wrong_fields", f"{where}: {first['msg']}")
