"""distilabel's multi-turn loop, its Magpie task, over our endpoint.

Runs in distilabel's own environment, so it imports nothing of ours:

    python distilabel_loop.py '{"url": ..., "system": ..., "seeds": [[...], ...], "batch": 50}'

Every conversation's seeds say how long its turns are, as for everybody else.
"""

import json
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from distilabel.models.llms.base import LLM
from distilabel.models.mixins.magpie import MagpieChatTemplateMixin
from distilabel.steps.tasks import Magpie

TIMEOUT_S = 600.0


class Endpoint(LLM, MagpieChatTemplateMixin):
    """Sends a batch's requests side by side, as distilabel's asynchronous clients do."""

    url: str
    seeds: list[list[int]]
    magpie_pre_query_template: str = "qwen2"

    @property
    def model_name(self) -> str:
        """For its rows."""
        return "endpoint"

    def generate(
        self, inputs: list[Any], num_generations: int = 1, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """One text for each conversation of the batch; returns when the last is there."""
        with ThreadPoolExecutor(len(inputs)) as pool:
            texts = list(pool.map(self._ask, inputs, self.seeds))
        tokens = {"input_tokens": [0], "output_tokens": [0]}
        return [{"generations": [text], "statistics": tokens} for text in texts]

    def _ask(self, messages: list[dict[str, str]], seeds: list[int]) -> str:
        body = json.dumps({"messages": messages, "seed": seeds[len(messages) - 1]}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return str(json.loads(response.read())["text"])


def main() -> None:
    """Hold all conversations, a batch after the other."""
    given = json.loads(sys.argv[1])
    seeds, batch = given["seeds"], given["batch"]
    for start in range(0, len(seeds), batch):
        chunk = seeds[start : start + batch]
        task = Magpie(llm=Endpoint(url=given["url"], seeds=chunk), n_turns=len(seeds[0]) // 2)
        task.load()
        rows = next(task.process([{"system_prompt": given["system"]} for _ in chunk]))
        assert all(len(row["conversation"]) == len(seeds[0]) for row in rows)


if __name__ == "__main__":
    main()
