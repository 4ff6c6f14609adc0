"""Personal data is found by form and check digit; what is nobody's is left alone."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersim.personal_data import find, has_placeholder, luhn, mask


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to mara.quill@gardenpost.se please", "email"),
        ("[mara](mailto:mara_q+x@mail.gardenpost.co.uk)", "email"),
        ("my number is (512) 271-2172, call", "phone"),
        ("TEL: 1-512-271-2172", "phone"),
        ("ring +49 621 875 5770 after six", "phone"),
        ("card 4539 1488 0343 6467 exp 04/27", "card"),
        ("4539148803436467", "card"),
        ("pay to DE89 3704 0044 0532 0130 00 today", "iban"),
        ("GB82WEST12345698765432", "iban"),
        ("ssn 219-09-9999", "ssn"),
        ("ssh ubuntu@host at 44.208.150.210:8080", "ip"),
        ("export KEY=sk-abcdefghijklmnopqrstuvwx", "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----", "secret"),
    ],
)
def test_each_kind_is_found_and_masked(text, kind):
    found = find(text)
    assert [place.kind for place in found] == [kind]
    masked = mask(text, found)
    assert f"[{kind.upper()}]" in masked
    assert find(masked) == []
    assert has_placeholder(masked)


@pytest.mark.parametrize(
    "text",
    [
        "user@example.com or your.name@yourcompany.com",
        "support@gardenpost.se",
        "git@github.com:a/b.git",
        "npm i left-pad@1.3.0",
        "call 555-0123 or (212) 555-0199",
        "order 5122712172 of 2023-04-17 12:30:55",
        "192.168.0.1, 127.0.0.1, 10.2.3.4, 8.8.8.8 and version 1.0.0.0",
        "version 4.12.3.1.9",
        "4111 1111 1111 1111 is a test card",
        "1234 5678 9012 3456",
        "isbn 978-3-16-148410-0",
        "3.14159265358979323846",
        "DE89 3704 0044 0532 0130 01 has wrong check digits",
        "123-45-6789 is an example, 000-12-3456 was never given out",
        "x = (100) 200 - 3000",
        "NAME_1 lives in [ADDRESS], <EMAIL_ADDRESS>",
        "token = 'xoxp-your-token-here'",
    ],
)
def test_what_is_nobodys_is_left_alone(text):
    assert find(text) == []


@given(st.text(max_size=200))
def test_any_text_is_masked_once_and_for_all(text):
    found = find(text)
    assert [p.start for p in found] == sorted(p.start for p in found)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert mask(text, []) == text


@given(st.text(alphabet="0123456789", min_size=12, max_size=18))
def test_one_check_digit_in_ten_is_right(number):
    assert sum(luhn(number + str(digit)) for digit in range(10)) == 1


@pytest.mark.parametrize(
    "text",
    ["i am NAME_1", "<PRESIDIO_ANONYMIZED_PERSON>", "[ADDRESS 2]", "<US_SSN>", "[REMOVED]"],
)
def test_source_corpora_leave_placeholders(text):
    assert has_placeholder(text)
    assert not has_placeholder(text.lower())
