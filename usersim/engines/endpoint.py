"""Any OpenAI-compatible chat server: a vLLM elsewhere, a vendor. One POST a turn, over httpx.

Transient failures (no connection, timeout, 408, 409, 429, 5xx) are tried again with exponential
backoff and full jitter (each pause is drawn from 0 to a doubling cap, or what `Retry-After` asks
for), other refusals are final. How many requests are sent at once follows what the server can take
(`limit`); while one waits because it was asked to, no other is sent. The API key comes from an
environment variable and appears in no message, log or error.
"""

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from usersim.conversation import Message
from usersim.encoding import well_formed
from usersim.engine import Completion, Sampling
from usersim.engines.limit import AdaptiveLimit
from usersim.errors import DeterministicError, EngineDead, InputError, TransientError

if TYPE_CHECKING:
    import httpx

    from usersim.engines import EngineSpec

PAUSE_S = 0.5  # cap of the first pause
LONGEST_PAUSE_S = 30.0
TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504, 529}
NO_ROOM = {429, 503, 529}
"""Too many requests, unavailable, overloaded: fewer at once would have been answered."""
# `finish_reason`, as servers of all kinds write it; other words say no more than that it is over.
STOPPED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence"}
CUT = {"length", "max_tokens", "model_length"}
BROKEN_OFF = {"abort", "error", "insufficient_system_resource"}
"""The server did not get to the end; it may when asked again."""
UNSAID = {"content_filter": "content_filter", "tool_calls": "tool_calls", "tool_use": "tool_calls"}
"""Reasons to count by, of answers that hold nothing."""

NOT_FOR_THE_WORDS = {
    HTTPStatus.UNAUTHORIZED: "not_authorized",
    HTTPStatus.PAYMENT_REQUIRED: "not_paid",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "not_found",
}
"""Refusals of the key, the account, the address or the model's name, whatever was asked."""

NO_CREDIT = "insufficient_quota"  # OpenAI's code for an empty account, behind a 429
NO_KEY = "key_variable (not set in the recipe)"
MOST_TOKENS = 2**31  # a count beyond is no count, and no database's integer
DETAIL = 300  # characters of a server's refusal that are worth showing

RENAMED = "max_completion_tokens"  # what OpenAI's later models call `max_tokens`, and want

# What servers say when a prompt does not fit: OpenAI's code, vLLM's and llama.cpp's words.
CONTEXT_FULL = (
    "context_length_exceeded",
    "maximum context length",
    "context length",
    "context size",
    "too many tokens",
    "prompt is too long",
)

Pause = Callable[[int, float | None], Awaitable[None]]
"""Waits before try `n` (from 1); the number is what the server asked for, in seconds."""


async def jittered_pause(tries: int, asked_s: float | None) -> None:
    """Wait as the server asks, else 0 to 0.5 s, 1 s, 2 s ... up to 30 s."""
    cap = min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (tries - 1))
    wanted = min(asked_s, LONGEST_PAUSE_S) if asked_s is not None else random.uniform(0, cap)
    await asyncio.sleep(wanted)


class EndpointEngine:
    """A model behind a chat completions endpoint. Made by `open`."""

    def __init__(
        self, spec: "EngineSpec", client: "httpx.AsyncClient", pause: Pause = jittered_pause
    ) -> None:
        self._spec = spec
        self._client = client
        self._pause = pause
        self._limits_by = "max_tokens"
        self.limit = AdaptiveLimit(spec.max_num_seqs)

    @classmethod
    def open(cls, spec: "EngineSpec", pause: Pause = jittered_pause) -> Self:
        """The engine; nothing is sent yet. Raises InputError for a spec without URL or key."""
        import httpx

        if not _is_address(spec.url):
            raise InputError(
                f"endpoint {spec.model}: url is {spec.url!r}; give the server's base URL,"
                " as http://localhost:8000/v1"
            )
        client = httpx.AsyncClient(
            headers=_authorization(spec.key_variable),
            # Who does not even take the call is known before a slow answer is given up.
            timeout=httpx.Timeout(spec.timeout_s, connect=spec.timeout_s / 2),
            verify=spec.url.startswith("https://"),  # loading certificates takes a while
            limits=httpx.Limits(max_connections=spec.max_num_seqs),
        )
        return cls(spec, client, pause)

    @property
    def model(self) -> str:
        """The model's name, for lineage."""
        return self._spec.display_name

    @property
    def context_tokens(self) -> int:
        """What the spec says; the server's own limit is found by its refusal."""
        return self._spec.context_tokens

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The next turn, by the server.

        Raises TransientError when the tries are used up, EngineDead when nothing answers at the
        URL, DeterministicError for a refusal (`context_full`, `not_authorized`, `not_paid`,
        `not_found`, `redirected`, `forbidden`, `engine_refused`) or an answer that is not a chat
        completion (`malformed_answer`) or holds nothing (`content_filter`, `tool_calls`,
        `empty_answer`).
        """
        body = self._body(messages, sampling)
        tries = 0
        while True:
            ticket = await self.limit.enter()
            try:
                completion = await self._post(body)
            except _Later as later:
                tries += 1
                await self._stand_back(later, ticket, tries)
            except BaseException:
                self.limit.leave()
                raise
            else:
                self.limit.answered()
                self.limit.leave()
                return completion

    async def _stand_back(self, later: "_Later", ticket: int, tries: int) -> None:
        """Pause before the next try, all others too where the server asks for it; or give up."""
        if later.no_room:
            self.limit.refused(ticket)
        with self.limit.shut() if later.asked_s is not None else nullcontext():
            self.limit.leave()
            if tries > self._spec.retries:
                raise later.final from later
            await self._pause(tries, later.asked_s)

    async def _post(self, body: dict[str, Any]) -> Completion:
        """The answer. A server that wants the limit under its later name is given it, for good."""
        response = await self._sent(body)
        if "max_tokens" in body and _wants_it_renamed(response):
            self._limits_by = RENAMED
            body[RENAMED] = body.pop("max_tokens")
            response = await self._sent(body)
        if response.status_code != HTTPStatus.OK:
            raise self._refusal(response)
        return _completion(response)

    async def _sent(self, body: dict[str, Any]) -> "httpx.Response":
        import httpx

        url = self._spec.url.rstrip("/") + "/chat/completions"
        try:
            async with asyncio.timeout(self._spec.timeout_s):  # httpx limits each read by itself
                return await self._client.post(url, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise _Later(
                EngineDead(
                    f"nothing answers at {self._spec.url} ({error!r}): start the server, or mend"
                    " `url` in the recipe"
                )
            ) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            message = f"no answer within {self._spec.timeout_s:g} s from {self._spec.url}"
            raise _Later(TransientError(message)) from error
        except httpx.RequestError as error:  # a body that cannot be decompressed is one, too
            raise _Later(TransientError(f"{self._spec.url}: {error!r}")) from error

    def _refusal(self, response: "httpx.Response") -> Exception:
        status, text = response.status_code, _text(response)
        if status == HTTPStatus.TOO_MANY_REQUESTS and NO_CREDIT in text:
            status = HTTPStatus.PAYMENT_REQUIRED
        what = f"{self._spec.url} answered {response.status_code}: {text[:DETAIL]}"
        if status in TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            asked_s = _seconds(response.headers.get("retry-after"))
            return _Later(TransientError(what), asked_s, no_room=status in NO_ROOM)
        if response.has_redirect_location:
            moved = f"{what} (moved to {response.headers['location'][:DETAIL]}: mend `url`)"
            return DeterministicError(moved, "redirected")
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            what += f"; the key comes from {self._spec.key_variable or NO_KEY}"
        if status in NOT_FOR_THE_WORDS:
            return DeterministicError(what, NOT_FOR_THE_WORDS[HTTPStatus(status)])
        if status == HTTPStatus.FORBIDDEN:  # may be a verdict on what was said, not on the key
            return DeterministicError(what, "forbidden")
        full = any(sign in text.lower() for sign in CONTEXT_FULL)
        return DeterministicError(what, "context_full" if full else "engine_refused")

    def _body(self, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        """The request. What is at its default is left out: not every server knows every field."""
        body: dict[str, Any] = {
            "model": self._spec.model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            self._limits_by: sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.min_tokens:
            body["min_tokens"] = sampling.min_tokens
        if sampling.repetition_penalty != 1:
            body["repetition_penalty"] = sampling.repetition_penalty
        if sampling.end_bias and self._spec.end_token_id is not None:
            body["logit_bias"] = {str(self._spec.end_token_id): _within(sampling.end_bias)}
        if sampling.schema:
            wanted = {"name": "answer", "schema": json.loads(sampling.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        return body

    async def close(self) -> None:
        """Close the connections. Calling it twice is allowed."""
        await self._client.aclose()


def _wants_it_renamed(response: "httpx.Response") -> bool:
    """Whether a server refuses `max_tokens` and names what it takes instead."""
    return response.status_code == HTTPStatus.BAD_REQUEST and RENAMED in _text(response)


def _within(bias: float) -> float:
    """The OpenAI API takes biases from -100 (never) to 100."""
    return max(-100.0, min(100.0, bias))


class _Later(Exception):
    """Worth another try; `final` is what to raise when there are no more."""

    def __init__(
        self,
        final: TransientError | EngineDead,
        asked_s: float | None = None,
        no_room: bool = False,
    ) -> None:
        super().__init__(str(final))
        self.final = final
        self.asked_s = asked_s
        self.no_room = no_room


def _authorization(variable: str) -> dict[str, str]:
    if not variable:
        return {}
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(f"the environment variable {variable}, for the API key, is not set")
    if not (key.isascii() and key.isprintable()):  # what refuses it later would show it
        raise InputError(f"{variable} holds a line break, or a character that no API key has")
    return {"Authorization": f"Bearer {key}"}


def _is_address(url: str) -> bool:
    import httpx

    try:
        return url.startswith(("http://", "https://")) and bool(httpx.URL(url).host)
    except httpx.InvalidURL:
        return False


def _seconds(header: str | None) -> float | None:
    """`Retry-After` in seconds; its other form, a date, is left to our own backoff."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None


def _completion(response: "httpx.Response") -> Completion:
    """The first choice of a chat completion, as servers of all kinds write it.

    JSON can escape half of a character, which no file can hold: it is marked as lost (U+FFFD), as
    engines do whose last token is half of one, and curation knows it by that.

    Silence is the speaker's own, who has left, only where the server says that they stopped.
    """
    try:
        body: Mapping[str, Any] = response.json()
        choice = body["choices"][0]
        text = choice["message"].get("content") or ""
        if not isinstance(text, str):
            raise TypeError("parts of a message")
        usage = body.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        ended = str(choice.get("finish_reason")).lower()
        completion = Completion(
            text=well_formed(text),
            finish_reason="length" if ended in CUT else "stop",
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            cached_tokens=_count(details.get("cached_tokens")),
        )
    except (
        ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise DeterministicError(
            f"not a chat completion: {_text(response)[:DETAIL]!r}", reason="malformed_answer"
        ) from error
    if ended in BROKEN_OFF:
        raise _Later(TransientError(f"the server broke off: {_text(response)[:DETAIL]}"))
    silent = not completion.text.strip() and ended not in STOPPED | CUT
    if silent or ended == "content_filter":  # which may also have cut a text short
        raise DeterministicError(
            f"no answer, but finish_reason {ended!r:.40}", UNSAID.get(ended, "empty_answer")
        )
    return completion


def _count(told: float | str | None) -> int:
    count = int(told or 0)
    if not 0 <= count < MOST_TOKENS:
        raise ValueError(f"{count} tokens")
    return count


def _text(response: "httpx.Response") -> str:
    """What a server says, fit for a line on a screen, whatever encoding it claims."""
    text = response.content.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text)
