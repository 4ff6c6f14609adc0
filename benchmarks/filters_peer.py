"""Times datatrove's quality filters on texts, in an interpreter of their own: see filters.py."""

import json
import sys
import time
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import PIIFormatter


def main() -> None:
    """Print conversations per CPU second, by filter and for all of them, as one JSON line."""
    texts = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    steps = {
        "datatrove GopherRepetitionFilter": GopherRepetitionFilter().filter,
        "datatrove GopherQualityFilter": GopherQualityFilter().filter,
        "datatrove C4QualityFilter": C4QualityFilter(filter_no_terminal_punct=False).filter,
        "datatrove FineWebQualityFilter": FineWebQualityFilter().filter,
        "datatrove PIIFormatter": lambda d: PIIFormatter().format(d.text),
    }
    total, rates = 0.0, {}
    for name, step in steps.items():
        documents = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]
        step(documents[0])
        began = time.process_time()
        for document in documents:
            step(document)
        spent = time.process_time() - began
        total += spent
        rates[name] = len(texts) / spent
    print(json.dumps(rates | {"datatrove, these five": len(texts) / total}))


if __name__ == "__main__":
    main()
