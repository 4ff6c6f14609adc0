"""The endpoint engine against a small server in this process that misbehaves on demand."""

import asyncio
import json
import os
import socket
import threading
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from usersim.conversation import Message
from usersim.engine import Completion, Sampling
from usersim.engines import EngineSpec, open_engine
from usersim.engines.endpoint import EndpointEngine
from usersim.errors import DeterministicError, EngineDead, InputError, TransientError

HELLO = [Message("system", "Be kind."), Message("user", "hello ü <|im_end|>")]
SECRET = "sk-very-secret"


def answer(text="hi there", finish="stop", **usage):
    return 200, {
        "choices": [{"message": {"content": text}, "finish_reason": finish}],
        "usage": usage,
    }


class Server:
    """Answers from a list of (status, body[, headers]); the last one stays."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.seen = []
        self.headers = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()
        self.open_at = None

    def respond(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self.lock:
            self.seen.append((handler.path, body))
            self.headers.append(dict(handler.headers))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            if self.at_once == self.open_at:
                self.gate.set()
            given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.gate.wait(20)
        with self.lock:
            self.at_once -= 1
        if given == "hang up":
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        status, content, headers = (*given, {})[:3]
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in (headers | {"content-length": len(data)}).items():
            handler.send_header(name, str(value))
        with suppress(BrokenPipeError, ConnectionResetError):  # a client that gave up waiting
            handler.end_headers()
            handler.wfile.write(data)


@contextmanager
def serving(*answers):
    server = Server(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            server.respond(self)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        server.gate.set()
        http.shutdown()
        http.server_close()


def spec(url, **changed):
    return EngineSpec(kind="endpoint", model="org/model", url=url, **changed)


def ask(url, messages=HELLO, sampling=None, times=1, pauses=None, **changed):
    """Complete `times` at once; pauses are noted, not waited for."""
    noted = pauses if pauses is not None else []

    async def pause(tries, asked_s):
        noted.append((tries, asked_s))

    async def run():
        engine = EndpointEngine.open(spec(url, **changed), pause)
        try:
            asked = (engine.complete(messages, sampling or Sampling()) for _ in range(times))
            return await asyncio.gather(*asked)
        finally:
            await engine.close()
            await engine.close()

    return asyncio.run(run())


def test_a_schema_goes_out_as_a_response_format():
    schema = {"type": "object", "properties": {"score": {"enum": [1, 2]}}, "required": ["score"]}
    with serving(answer('{"score": 2}')) as server:
        ask(server.url, sampling=Sampling(schema=json.dumps(schema)))
        ask(server.url, sampling=Sampling())
    (_, asked), (_, free) = server.seen
    assert asked["response_format"]["json_schema"]["schema"] == schema
    assert asked["response_format"]["json_schema"]["strict"] is True
    assert "response_format" not in free


def test_sends_the_conversation_and_reads_the_answer():
    usage = {
        "prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}
    }  # fmt: skip
    with serving(answer("hi ü", **usage)) as server:
        sampling = Sampling(max_tokens=9, temperature=0.5, top_p=0.8, seed=11)
        assert ask(server.url + "/", sampling=sampling) == [Completion("hi ü", "stop", 12, 3, 8)]
    [(path, body)] = server.seen
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "org/model",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "hello ü <|im_end|>"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.8,
        "seed": 11,
    }


def test_an_opener_is_asked_for_with_no_messages_and_nothing_means_the_speaker_left():
    with serving(answer(None)) as server:
        assert ask(server.url, []) == [Completion("", "stop")]
    assert server.seen[0][1]["messages"] == []


def test_the_limit_goes_out_under_the_name_that_the_model_wants():
    """What OpenAI's later models say to `max_tokens`; once they have, they are not asked again."""
    said = (
        "Unsupported parameter: 'max_tokens' is not supported with this model."
        " Use 'max_completion_tokens' instead."
    )

    async def two_turns(url):
        engine = EndpointEngine.open(spec(url))
        turns = [await engine.complete(HELLO, Sampling(max_tokens=9)) for _ in range(2)]
        await engine.close()
        return turns

    with serving((400, {"error": {"message": said}}), answer()) as server:
        assert [c.text for c in asyncio.run(two_turns(server.url))] == ["hi there", "hi there"]
    limits = [{k: v for k, v in body.items() if k.startswith("max")} for _, body in server.seen]
    assert limits == [{"max_tokens": 9}] + 2 * [{"max_completion_tokens": 9}]


def test_a_server_that_refuses_both_names_of_the_limit_is_believed():
    with serving((400, {"error": "no max_completion_tokens here"})) as server:
        with pytest.raises(DeterministicError, match="no max_completion_tokens"):
            ask(server.url)
        assert len(server.seen) == 2


def test_a_cut_answer_says_so():
    with serving(answer("and then", "length")) as server:
        assert ask(server.url)[0].finish_reason == "length"


@pytest.mark.parametrize(
    "fault", [(429, {}), (500, {}), (503, {}), (529, {}), (408, {}), "hang up"], ids=str
)
def test_transient_faults_are_tried_again(fault):
    pauses = []
    with serving(fault, fault, answer("at last")) as server:
        assert ask(server.url, pauses=pauses)[0].text == "at last"
    assert [tries for tries, _ in pauses] == [1, 2]


def test_the_tries_are_bounded():
    with serving((503, {"error": "busy"})) as server:
        with pytest.raises(TransientError, match=r"503.*busy"):
            ask(server.url, retries=3)
        assert len(server.seen) == 4


def test_a_server_may_say_how_long_to_wait():
    pauses = []
    wait, date = {"retry-after": "7"}, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}
    with serving((429, {}, wait), (429, {}, date), answer()) as server:
        ask(server.url, pauses=pauses)
    assert pauses == [(1, 7.0), (2, None)]


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, {"error": {"code": "context_length_exceeded"}}, "context_full"),
        (400, {"message": "This model's maximum context length is 2048 tokens"}, "context_full"),
        (400, {"error": "temperature must be positive"}, "engine_refused"),
        (404, {"error": "no such model"}, "not_found"),
        (405, {"detail": "Method Not Allowed"}, "not_found"),
        (402, {"error": "Insufficient Balance"}, "not_paid"),
        (429, {"error": {"code": "insufficient_quota"}}, "not_paid"),
        (401, {"error": "bad key"}, "not_authorized"),
        (403, {"error": "your input was flagged"}, "forbidden"),
    ],
)
def test_refusals_are_final_and_typed(status, body, reason):
    with serving((status, body)) as server:
        with pytest.raises(DeterministicError) as refused:
            ask(server.url)
        assert len(server.seen) == 1
    assert refused.value.reason == reason
    assert str(status) in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [b"<html>hello", b"[]", b'{"choices": []}', b'{"choices": [{"message": null}]}', b"\xff\xfe"],
)
def test_an_answer_that_is_none_is_refused(body):
    with serving((200, body)) as server, pytest.raises(DeterministicError) as refused:
        ask(server.url)
    assert refused.value.reason == "malformed_answer"


def test_a_slow_server_is_not_waited_for_for_ever():
    with serving(answer()) as server:
        server.gate.clear()
        with pytest.raises(TransientError, match=r"no answer within 0\.05 s"):
            ask(server.url, timeout_s=0.05, retries=1)
        server.gate.set()


def test_where_nothing_answers_the_engine_is_dead():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    pauses = []
    with pytest.raises(EngineDead, match="start the server"):
        ask(url, retries=2, pauses=pauses)
    assert len(pauses) == 2


def test_no_more_requests_at_once_than_allowed():
    with serving(answer()) as server:
        server.gate.clear()
        server.open_at = 3
        assert len(ask(server.url, times=12, max_num_seqs=3)) == 12
    assert server.most_at_once == 3


def test_the_key_is_sent_and_never_shown(monkeypatch, caplog):
    monkeypatch.setenv("A_KEY", SECRET)
    caplog.set_level("DEBUG")
    with serving((401, {"error": "bad key"})) as server:
        with pytest.raises(DeterministicError, match="A_KEY") as refused:
            ask(server.url, key_variable="A_KEY")
        assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in str(refused.value) + repr(spec("http://x", key_variable="A_KEY"))
    assert SECRET not in caplog.text


@pytest.mark.parametrize("inside", ["\n", "\x00", "\u2026"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(inside, monkeypatch):
    """The HTTP library would say which header it refuses, in every rejected row."""
    monkeypatch.setattr("os.environ", {**os.environ, "A_KEY": f"{SECRET}{inside}{SECRET}"})
    with pytest.raises(InputError, match="A_KEY holds a line break") as refused:
        open_engine(spec("http://localhost:1/v1", key_variable="A_KEY"))
    assert SECRET not in str(refused.value)


def test_what_a_server_says_moves_no_cursor():
    with (
        serving((400, b"<html>\n\x1b[2Jno\r")) as server,
        pytest.raises(DeterministicError, match=r"400: <html>  \[2Jno $"),
    ):
        ask(server.url)


def test_a_spec_that_cannot_be_is_refused_at_once(monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(InputError, match="base URL"):
        open_engine(spec(""))
    for url in ("http://host:port/v1", "https:///v1", "ftp://host/v1"):
        with pytest.raises(InputError, match="base URL"):
            open_engine(spec(url))
    with pytest.raises(InputError, match="NO_KEY"):
        open_engine(spec("http://localhost:1/v1", key_variable="NO_KEY"))


def test_names_in_lineage_hold_no_paths():
    assert EngineSpec(model="org/name").display_name == "org/name"
    assert EngineSpec(model="/home/me/runs/demo/models/user").display_name == "user"
    assert EngineSpec(model="runs/demo/models/user").display_name == "user"
    assert EngineSpec(model="./user", name="UserGPT").display_name == "UserGPT"


def talk_to(url, times, pause, **changed):
    """The engine after `times` completions asked for at once."""

    async def run():
        engine = EndpointEngine.open(spec(url, **changed), partial(pause, lambda: engine))
        try:
            asked = (engine.complete(HELLO, Sampling()) for _ in range(times))
            assert len(await asyncio.gather(*asked)) == times
        finally:
            await engine.close()
        return engine

    return asyncio.run(run())


def test_a_server_without_room_is_sent_fewer_at_once():
    limits = []

    async def pause(engine, tries, asked_s):
        limits.append(engine().limit.limit)

    with serving(*[(429, {})] * 16, answer()) as server:
        engine = talk_to(server.url, 40, pause, max_num_seqs=16)
    assert limits[0] == 8.0  # the first refusal of those sent together halves it
    assert 1 <= engine.limit.limit < 16
    assert engine.limit.running == 0


def test_an_error_that_says_nothing_of_room_does_not_slow_down():
    async def pause(engine, tries, asked_s):
        assert engine().limit.limit == 16.0

    with serving((500, {}), (408, {}), answer()) as server:
        assert talk_to(server.url, 8, pause, max_num_seqs=16).limit.cuts == 0


def test_while_one_was_asked_to_wait_no_other_is_sent():
    seen = []

    async def pause(engine, tries, asked_s):
        before = len(server.seen)
        assert asked_s == 3.0
        for _ in range(50):
            await asyncio.sleep(0)
        seen.append(len(server.seen) - before)

    with serving((429, {}, {"retry-after": "3"}), answer()) as server:
        talk_to(server.url, 12, pause, max_num_seqs=1)
    assert seen == [0]


@pytest.mark.parametrize(("bias", "sent"), [(-100.0, -100.0), (1.5, 1.5), (300.0, 100.0)])
def test_leaving_is_biased_where_the_token_is_known(bias, sent):
    with serving(answer()) as server:
        ask(server.url, sampling=Sampling(end_bias=bias), end_token_id=42)
        ask(server.url, sampling=Sampling(end_bias=bias))
        ask(server.url, sampling=Sampling(), end_token_id=42)
    bodies = [body for _, body in server.seen]
    assert bodies[0]["logit_bias"] == {"42": sent}
    assert all("logit_bias" not in body for body in bodies[1:])
