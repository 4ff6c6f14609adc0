"""A person of our own invention, for the tests of this folder."""

import pytest

from usersim.personas.schema import Language, Persona, Personal, Social, WritingStyle


@pytest.fixture
def ada() -> Persona:
    return Persona(
        career="lighthouse keeper",
        aspiration="chart every reef between here and the islands",
        traits=("patient", "blunt"),
        skills=("knots", "weather reading"),
        personal=Personal(
            name="Ada Fairweather",
            gender="woman",
            age=52,
            origin="Scottish",
            tone="dry and unhurried",
            personality="quiet company with sharp remarks",
            strengths=("steady under pressure",),
            weaknesses=("slow to forgive",),
            hobbies=("whittling", "radio plays"),
        ),
        social=Social(
            family="a sister in Leith and two nephews",
            relationships="the supply boat's crew",
            living="a stone cottage, and a rented room in Edinburgh in winter",
            community="the lifeboat volunteers",
            education="the merchant navy",
        ),
        language=Language(first="Scots", english="native"),
        style=WritingStyle(capitals="none", punctuation="none", length="short"),
    )
