"""Datasets of the Hugging Face Hub, record by record, nothing downloaded as a whole."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from usersim.errors import InputError, WorldError
from usersim.sources.draft import Raw

PREFIX = "hub:"
_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A dataset, as the recipe names it."""

    name: str
    revision: str | None = None

    @classmethod
    def named(cls, source: str) -> "HubDataset":
        """From `hub:OWNER/NAME` or `hub:OWNER/NAME@REVISION`; raises InputError for others."""
        found = _NAME.fullmatch(source.removeprefix(PREFIX))
        if not found:
            raise InputError(f"{source!r} names no dataset: write hub:OWNER/NAME")
        return cls(found["name"], found["revision"])

    def records(self, split: str, subset: str | None = None) -> Iterator[Raw]:
        """Every record of a split, streamed.

        Raises InputError when the dataset cannot be opened from here (no network, no permission,
        no such split), WorldError when the stream breaks.
        """
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError

        # A failed request is no OSError until the Hub's client has turned it into its own error.
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

        faults = (OSError, ValueError, RuntimeError, DatasetsError, HTTPError)
        try:
            rows = load_dataset(
                self.name, subset, split=split, revision=self.revision, streaming=True
            )
        except faults as error:
            raise InputError(self._remedy(split, error)) from error
        stem, number = self.name.partition("/")[2], 0
        try:
            for row in rows:
                yield Raw(f"{stem}-{number}", dict(row))
                number += 1
        except faults as error:
            raise WorldError(
                f"{PREFIX}{self.name} broke off after {number} records ({_first_lines(error)}): "
                "run the same command again, or take fewer with ingest.max_records"
            ) from error

    def _remedy(self, split: str, error: Exception) -> str:
        what = f"cannot open {PREFIX}{self.name}, split {split!r}: {_first_lines(error, 2)}"
        return (
            f"{what}\n"
            "  without network: fetch its files elsewhere and give their folder, "
            "ingest.source=FOLDER\n"
            "  private or gated: accept its terms on huggingface.co, then run `hf auth login`\n"
            "  otherwise check its name, ingest.split and ingest.subset"
        )


def _first_lines(error: Exception, lines: int = 1) -> str:
    return " ".join(str(error).splitlines()[:lines]) or type(error).__name__
