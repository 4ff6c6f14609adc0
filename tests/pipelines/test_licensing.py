"""What may be published, folded from every source's license."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.licensing import DEMANDS, ITSELF, NEVER, Entry, normal, permission
from usersim.errors import InputError


def ledger(*licenses: str) -> list[Entry]:
    return [Entry(f"source {i}", name, 10) for i, name in enumerate(licenses)]


@pytest.mark.parametrize(
    ("sources", "stated", "license"),
    [
        (["cc0-1.0"], "unknown", "cc0-1.0"),
        (["CC-BY-4.0", "mit", "cc0-1.0"], "unknown", "cc-by-4.0"),
        (["odc-by", "cc-by-nc-4.0"], "unknown", "cc-by-nc-4.0"),
        (["cc-by-sa-4.0", "cc-by-4.0"], "unknown", "cc-by-sa-4.0"),
        (["cc0-1.0"], "cc-by-4.0", "cc-by-4.0"),
        (["apache_2.0"], "Gemma", "gemma"),
    ],
)
def test_a_mix_goes_under_the_license_that_keeps_what_all_demand(sources, stated, license):
    assert permission(ledger(*sources), stated).license == license


@pytest.mark.parametrize(
    ("sources", "stated", "message"),
    [
        (["cc-by-4.0", "lmsys-chat-1m"], "unknown", "lmsys-chat-1m forbids .* source 1"),
        (["cc-by-nd-4.0"], "cc-by-4.0", "forbids"),
        (["cc-by-sa-4.0", "cc-by-nc-4.0"], "unknown", "mix of cc-by-nc-4.0, cc-by-sa-4.0"),
        (["gemma", "llama3"], "unknown", "mix"),
        (["cc-by-nc-4.0"], "mit", "does not keep what cc-by-nc-4.0 demands"),
        (["cc-by-4.0"], "cc0-1.0", "does not keep"),
    ],
)
def test_what_a_license_forbids_stays_refused_whatever_is_stated(sources, stated, message):
    for confirmed in (None, "my lawyer likes it"):
        with pytest.raises(InputError, match=message):
            permission(ledger(*sources), stated, confirmed)


@pytest.mark.parametrize("name", ["", "unstated", "unknown", "other", "our-own-terms"])
def test_what_is_not_known_needs_a_statement(name):
    with pytest.raises(InputError, match="--license-confirmed"):
        permission(ledger("mit", name))
    with pytest.raises(InputError, match="--license-confirmed"):
        permission(ledger("mit", name), "mit")  # a stated whole does not clear its parts
    given = permission(ledger("mit", name), confirmed="we wrote it")
    assert (given.license, given.confirmed) == ("other", "we wrote it")
    assert permission(ledger("mit", name), "cc-by-4.0", "we wrote it").license == "cc-by-4.0"


def test_nothing_at_all_is_not_known_and_a_needless_statement_is_dropped():
    with pytest.raises(InputError, match="not known"):
        permission([])
    assert permission(ledger("mit"), confirmed="needless").confirmed is None


@given(st.lists(st.sampled_from(sorted(DEMANDS)), min_size=1, max_size=5))
def test_a_fold_never_loses_a_demand_and_does_not_depend_on_the_order(names):
    def fold(order):
        try:
            return permission(ledger(*order)).license
        except InputError:
            return None

    license = fold(names)
    assert license == fold(names[::-1])
    if license is not None:
        for name in names:
            assert DEMANDS[name] - {ITSELF} <= DEMANDS[license]
            assert NEVER not in DEMANDS[name]
            assert ITSELF not in DEMANDS[name] or license == name


def test_names_are_compared_as_the_hub_spells_them():
    assert normal(" CC_BY 4.0 ") == "cc-by-4.0"
    assert normal("unstated") == normal("") == "unknown"
