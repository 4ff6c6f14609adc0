"""Enrichment: facts stay, every malformed answer is counted, and the person stays whole."""

import json

import pytest

from usersim.engine import Completion
from usersim.engines import EngineSpec
from usersim.engines.scripted import ScriptedEngine, overloaded, refusing
from usersim.personas.enrich import EnrichSettings, Portrait, enrich, portrait_schema
from usersim.personas.factory import FactorySettings, make_personas

CAST = make_personas(FactorySettings(number=12)).personas
GOOD = {name: f"a line about {name} that was written" for name in Portrait.model_fields}
BAD = {
    "not_json": ["no", "", '{"personality": "x"', "[]}"],
    "breaks_schema": [
        "[]", "{}", json.dumps(GOOD | {"age": 3}), json.dumps(GOOD | {"family": "x" * 121}),
        json.dumps(GOOD | {"living": 7}), json.dumps(GOOD | {"living": "  "}),
    ],
}  # fmt: skip


def engine_of(answer):
    return ScriptedEngine(lambda messages, sampling: answer)


def test_an_engines_lines_come_in_and_the_facts_stay():
    done = enrich(EnrichSettings(), CAST, engine_of(json.dumps(GOOD)))
    for before, after in zip(CAST, done.personas, strict=True):
        assert after.social.family == GOOD["family"]
        assert after.personal.personality == GOOD["personality"]
        assert (after.name, after.career, after.traits) == (
            before.name,
            before.career,
            before.traits,
        )
    assert done.figures() == {
        "personas": 12, "enriched": 12, "quarantined": {}, "answers_refused": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "answer"), [(reason, answer) for reason in BAD for answer in BAD[reason]]
)
def test_every_malformed_answer_is_quarantined_with_its_reason(reason, answer):
    done = enrich(EnrichSettings(attempts=2), CAST, engine_of(answer))
    assert done.personas == CAST
    assert [r.reason for r in done.rejections] == [reason] * 12
    assert {r.record for r in done.rejections} == {answer}
    assert done.refused == {reason: 24}


def test_a_noisy_engine_is_asked_again_and_everything_is_accounted_for():
    bad = [answer for answers in BAD.values() for answer in answers]

    def script(messages, sampling):
        return bad[sampling.seed % len(bad)] if sampling.seed % 3 else json.dumps(GOOD)

    engine = ScriptedEngine(script)
    done = enrich(EnrichSettings(attempts=4), CAST, engine)
    enriched = sum(p.social.family == GOOD["family"] for p in done.personas)
    assert enriched + len(done.rejections) == 12
    assert enriched + done.refused.total() == engine.calls


def test_an_answer_that_is_cut_and_an_engine_that_refuses_are_told_apart():
    cut = engine_of(Completion('{"personality": "a long', "length"))
    done = enrich(EnrichSettings(attempts=1), CAST[:1], cut)
    assert done.figures()["quarantined"] == {"cut_off": 1}
    done = enrich(EnrichSettings(), CAST[:1], refusing(engine_of("x")))
    assert done.figures()["quarantined"] == {"engine_refused": 1}


def test_an_overload_costs_an_attempt_and_not_the_people_who_are_done():
    done = enrich(EnrichSettings(), CAST, overloaded(engine_of(json.dumps(GOOD)), times=2))
    assert done.figures()["answers_refused"] == {"transient_exhausted": 2}
    assert done.rejections == []
    done = enrich(EnrichSettings(), CAST[:1], overloaded(engine_of("x")))
    assert done.figures()["quarantined"] == {"transient_exhausted": 1}


@pytest.mark.slow
def test_the_real_engine_writes_no_line_that_cannot_be_read():
    spec = EngineSpec(model="smollm2-135m-instruct", kv_cache_gb=0.5)
    done = enrich(EnrichSettings(engine=spec), CAST[:6])
    # One that its token limit broke off is counted, not read; all others keep to the schema.
    assert set(done.figures()["answers_refused"]) <= {"cut_off"}
    assert json.loads(portrait_schema())["additionalProperties"] is False
