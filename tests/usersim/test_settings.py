"""Tables of a recipe: what is not named stays as it was where the table stands."""

import pytest
from pydantic import ValidationError

from usersim.plan import SimulateSettings
from usersim.settings import Settings


class Inner(Settings):
    size: int = 1
    free: bool = False


class Middle(Settings):
    inner: Inner = Inner(size=5, free=True)
    name: str = "middle"


class Outer(Settings):
    middle: Middle = Middle(name="outer's")


def test_a_named_key_leaves_its_neighbours_as_they_are_there():
    assert Middle.model_validate({"inner": {"size": 9}}).inner == Inner(size=9, free=True)
    found = Outer.model_validate({"middle": {"inner": {"free": False}}}).middle
    assert found == Middle(name="outer's", inner=Inner(size=5, free=False))


def test_a_whole_table_stays_what_it_is():
    assert Middle(inner=Inner(size=2)).inner == Inner(size=2, free=False)


def test_unknown_keys_are_still_refused():
    with pytest.raises(ValidationError, match="nonsense"):
        Outer.model_validate({"middle": {"inner": {"nonsense": 1}}})


def test_a_users_length_leaves_the_way_their_turns_end():
    plan = SimulateSettings.model_validate({"user_sampling": {"max_tokens": 64}})
    assert (plan.user_sampling.max_tokens, plan.user_sampling.free_end) == (64, True)
