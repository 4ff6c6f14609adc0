"""A thread a conversation over an HTTP endpoint: how most simulators are written.

The endpoint is a small OpenAI-like server in this process over the same engine as everybody else's,
so that only the way of asking differs: text in, text out, the whole history tokenised every time,
one request after the other in each thread. Lengths are the server's affair, by the request's seed.
"""

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
        turns, pool = 2 * arena.work.rounds, ThreadPoolExecutor(len(plans))
        try:
            asked = [loop.run_in_executor(pool, _converse, url, plan, turns) for plan in plans]
            await asyncio.gather(*asked)
        finally:
            pool.shutdown(wait=False)  # when interrupted they wait for answers of this very loop
