"""A thread a conversation over an HTTP endpoint: how most simulators are written.

The endpoint is a small OpenAI-like server in this process over the same engine as everybody else's,
so that only the way of asking differs: text in, text out, the whole history tokenised every time,
one request after the other in each thread. Lengths are the server's affair, by the request's seed.
"""

import asyncio
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.contestants import ROLES, Arena
from benchmarks.workload import SHARED_SYSTEM, prescribed
from usersim.conversation import Message
from usersim.engine import Sampling
from usersim.plan import Plan

TIMEOUT_S = 600.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


@contextmanager
def served(arena: Arena, loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    """The URL of a chat endpoint over the arena's engines, while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = asyncio.run_coroutine_threadsafe(_completed(arena, body), loop)
            data = json.dumps({"text": answer.result(TIMEOUT_S)}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


async def _completed(arena: Arena, body: dict[str, object]) -> str:
    messages = [Message(m["role"], m["content"]) for m in body["messages"]]  # type: ignore[attr-defined]
    sampling = Sampling(temperature=1.0, top_p=0.9, seed=int(str(body["seed"])))
    turn = len(messages) - 1
    exact = prescribed(sampling, arena.work, turn)
    completion = await arena.engines[ROLES[turn % 2]].complete(messages, exact)
    return completion.text or "."


def _converse(url: str, plan: Plan, turns: int) -> None:
    """One conversation, one request after the other."""
    messages = [{"role": SHARED_SYSTEM.role, "content": SHARED_SYSTEM.content}]
    for turn in range(turns):
        body = json.dumps({"messages": messages, "seed": plan.turn_seed(turn, 0)}).encode()
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            text = json.loads(response.read())["text"]
        messages.append({"role": ROLES[turn % 2], "content": text})


async def threads(arena: Arena) -> None:
    """All conversations at once, a thread each; the server's own queue does the rest."""
    arena.gate(None)
    loop, plans = asyncio.get_running_loop(), arena.work.plans()
    with served(arena, loop) as url:
        turns = 2 * arena.work.rounds
        await asyncio.gather(*(_in_a_thread(_converse, url, plan, turns) for plan in plans))


def _in_a_thread(talk: Callable[[str, Plan, int], None], *given: Any) -> asyncio.Future[None]:
    """A thread that keeps no process from ending: who interrupts it waits for no answer."""
    told: Future[None] = Future()

    def run() -> None:
        with suppress(InvalidStateError):  # nobody waits any more
            try:
                told.set_result(talk(*given))
            except Exception as error:  # noqa: BLE001 - raised by whoever waits
                told.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return asyncio.wrap_future(told)
