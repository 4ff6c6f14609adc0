"""What an endpoint may answer, and fail with, over a transport that is a function."""

import asyncio
import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersim.conversation import Message
from usersim.engine import Completion, Sampling
from usersim.engines import EngineSpec
from usersim.engines.endpoint import EndpointEngine
from usersim.errors import DeterministicError, EngineDead, TransientError

HELLO = [Message("user", "hello")]


def spec(**changed):
    return EngineSpec(kind="endpoint", model="org/model", url="http://model/v1", **changed)


def answering(*choices):
    """Answers with these texts, or texts and finish reasons, in turn."""
    left = [choice if isinstance(choice, tuple) else (choice, "stop") for choice in choices]

    def handed(request):
        text, finish = left.pop(0)
        choice = {"message": {"content": text}, "finish_reason": finish}
        return httpx.Response(200, content=json.dumps({"choices": [choice]}).encode())

    return handed


class Dripping(httpx.AsyncByteStream):
    """A body that always goes on, as of servers that keep a connection alive by blank lines."""

    async def __aiter__(self):
        while True:
            yield b"\n"
            await asyncio.sleep(0)


def ask_over(handed, pauses=None, **changed):
    """Complete once over a transport that is a function of the request."""

    async def pause(tries, asked_s):
        if pauses is not None:
            pauses.append(tries)

    async def run():
        client = httpx.AsyncClient(transport=httpx.MockTransport(handed))
        engine = EndpointEngine(spec(**changed), client, pause)
        try:
            return await asyncio.wait_for(engine.complete(HELLO, Sampling()), timeout=30)
        finally:
            await engine.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "usage",
    [b"1e999", b"-3", b"1" + b"0" * 30, b"[" * 100_000],
    ids=["infinite", "negative", "absurd", "deep"],
)
def test_counts_that_are_none_are_refused(usage):
    body = b'{"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": %s}}'
    with pytest.raises(DeterministicError) as refused:
        ask_over(lambda _: httpx.Response(200, content=body % usage))
    assert refused.value.reason == "malformed_answer"


def test_half_a_character_is_marked_as_lost():
    assert ask_over(answering("hello \ud83d there")).text == "hello \ufffd there"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(JSON, JSON, JSON, JSON)
def test_whatever_an_endpoint_answers_can_be_written(text, finish, count, usage):
    """A completion that a journal takes, or an error that a conversation can end with."""
    choice = {"message": {"content": text}, "finish_reason": finish}
    told = usage if isinstance(usage, dict) else {"prompt_tokens": count, "completion_tokens": 3}
    body = json.dumps({"choices": [choice], "usage": told}).encode()

    try:
        said = ask_over(lambda request: httpx.Response(200, content=body), retries=0)
    except (DeterministicError, TransientError) as error:
        said = Completion(str(error), "stop")
    said.text.encode("utf-8")
    for tokens in (said.prompt_tokens, said.completion_tokens, said.cached_tokens):
        assert 0 <= tokens < 2**31


@pytest.mark.parametrize(
    "error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError], ids=lambda e: e.__name__
)
def test_a_host_that_cannot_be_reached_is_a_dead_engine(error):
    """However the connection fails: the run stops and resumes, and no conversation pays for it."""

    def unreachable(request):
        raise error("")

    pauses = []
    with pytest.raises(EngineDead, match=error.__name__):
        ask_over(unreachable, pauses, retries=2)
    assert pauses == [1, 2]


def test_an_answer_that_cannot_be_unpacked_is_asked_for_again():
    damaged = httpx.Headers({"content-encoding": "gzip"})
    pauses = []
    with pytest.raises(TransientError, match="DecodingError"):
        ask_over(lambda _: httpx.Response(200, headers=damaged, content=b"no"), pauses, retries=1)
    assert pauses == [1]


@pytest.mark.parametrize("finish", ["stop", "eos_token", "STOP"])
def test_silence_is_leaving_where_the_server_says_that_they_stopped(finish):
    assert ask_over(answering(("", finish))) == Completion("", "stop")


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("", "content_filter", "content_filter"),
        ("half a sen", "content_filter", "content_filter"),
        (None, "tool_calls", "tool_calls"),
        (" ", None, "empty_answer"),
        ("", "some new word", "empty_answer"),
    ],
)
def test_no_other_silence_is_leaving(text, finish, reason):
    with pytest.raises(DeterministicError) as refused:
        ask_over(answering((text, finish)))
    assert refused.value.reason == reason


def test_a_reasoner_without_a_word_left_is_cut_and_has_not_left():
    assert ask_over(answering((None, "length"))) == Completion("", "length")


def test_what_the_server_broke_off_is_asked_for_again():
    assert ask_over(answering(("half a sen", "abort"), "a sentence")).text == "a sentence"


def test_an_answer_that_drips_in_for_ever_is_given_up():
    with pytest.raises(TransientError, match=r"no answer within 0\.05 s"):
        ask_over(lambda _: httpx.Response(200, stream=Dripping()), timeout_s=0.05, retries=1)


@pytest.mark.parametrize("content", [[{"type": "text", "text": "hi"}], {"text": "hi"}, 7])
def test_what_is_no_text_is_not_written_down_as_python_shows_it(content):
    with pytest.raises(DeterministicError) as refused:
        ask_over(answering(content))
    assert refused.value.reason == "malformed_answer"


def test_a_server_that_has_moved_says_where_to():
    moved = httpx.Response(308, headers={"location": "https://model/v1/chat/completions"})
    with pytest.raises(DeterministicError, match=r"answered 308.*moved to https://model/v1") as to:
        ask_over(lambda _: moved)
    assert to.value.reason == "redirected"
