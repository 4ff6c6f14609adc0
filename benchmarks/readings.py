"""Readings that stay: a benchmark of hours is made in pieces, and what was read is never lost."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.meter import Reading


class Readings:
    """Readings by contestant; with a file also those that stand there of the same work.

    Each is appended to the file (JSON lines) when it is made. `about` is what they are of: lines
    about something else are left alone.
    """

    def __init__(self, about: Mapping[str, Any], file: Path | None = None) -> None:
        self.of: dict[str, list[Reading]] = {}
        self._about, self._file = dict(about), file
        if file and file.is_file():
            for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
                if row["about"] == self._about:
                    self._take(row["contestant"], Reading(**row["reading"]))

    def add(self, contestant: str, reading: Reading) -> None:
        """One more."""
        self._take(contestant, reading)
        if self._file:
            row = {"about": self._about, "contestant": contestant, "reading": asdict(reading)}
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")

    def _take(self, contestant: str, reading: Reading) -> None:
        self.of.setdefault(contestant, []).append(reading)
