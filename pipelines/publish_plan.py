"""`realchat publish`: the dry run shows what would go where; `--yes` does it."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipelines.gate import GateSettings, checks, figures_for_gate, passage
from pipelines.hub import Hub, State
from pipelines.licensing import Entry
from pipelines.publish import (
    Published,
    Wishes,
    changes,
    check_repository,
    next_tag,
    publish,
)
from pipelines.publish_options import PublishOptions
from pipelines.recipe import Recipe
from pipelines.release import STAGE_OF, Release, make_release
from pipelines.run_folder import RunFolder
from usersim.errors import InputError, WorldError

LISTED = 30  # files on the screen; of more, only the count


def publish_run(options: PublishOptions) -> str:
    """Publish something of a run, or plan to; returns what to show.

    The run is locked, so that no stage changes it meanwhile. Raises InputError and WorldError as
    `make_release` and `publish` do.
    """
    if options.what not in STAGE_OF:
        raise InputError(f"--what {options.what}: one of {', '.join(STAGE_OF)}")
    run, wishes = RunFolder(options.run), Wishes(options.public, options.tag)
    if not run.exists:
        raise InputError(f"{run.root} is no run folder; publish one that `realchat run` made")
    with run.locked():
        confirmed = checked_statement(options.license_confirmed)
        release = make_release(run, options.what, options.repo, confirmed, gate_of(run, options))
        if options.yes:
            return done(publish(release, Hub(options.repo, release.repo_type), wishes))
        return plan(release, Hub(options.repo, release.repo_type, pauses=()), wishes)


def gate_of(run: RunFolder, options: PublishOptions) -> dict[str, Any] | None:
    """What the release of a corpus records of its gate; models pass none.

    Raises InputError when the gate is closed and nobody says why it may be published all the same.
    """
    if options.what != "corpus":
        return None
    overridden = checked_statement(options.gate_overridden, "--gate-overridden")
    return passage(checks(gate_settings(run), figures_for_gate(run.root)), overridden)


def gate_settings(run: RunFolder) -> GateSettings:
    """The bounds in a run's own recipe."""
    return Recipe.checked(run.recipe(), str(run.recipe_file)).gate


def checked_statement(text: str | None, option: str = "--license-confirmed") -> str | None:
    """What the publisher states, as one line. Raises InputError for nothing, or a novel."""
    line = None if text is None else " ".join(text.split())
    if line is not None and not 10 <= len(line) <= 1000:
        raise InputError(f"{option}: say in 10 to 1000 characters why it may be")
    return line


def plan(release: Release, hub: Hub, wishes: Wishes) -> str:
    """What `publish` would do, as text. Raises InputError for what it would refuse.

    A hub that cannot be asked is no error here: the files are shown all the same.
    """
    notes = [] if hub.has_token else ["no token: set HF_TOKEN, or `hf auth login`"]
    state, tags, asked = None, [], True
    try:
        state = hub.state()
        tags = list(hub.tags()) if state else []
    except WorldError as error:
        asked, notes = False, [*notes, f"the hub cannot be asked: {error}"]
    check_repository(release, hub, wishes, state)
    rows = [
        ("repository", f"{hub.url} ({_repository(state, wishes, asked=asked)})"),
        ("license", release.permission.license),
        *(("", line) for line in _ledger(release.permission.ledger)),
        *([("stated", release.permission.confirmed)] if release.permission.confirmed else []),
        *([("gate", release.gate)] if release.gate else []),
        ("tag", wishes.tag or (next_tag(tags) if asked else "the next of v1, v2 ...")),
        ("files", f"{len(release.files)}, {human_size(release.size)}"),
        *(("", line) for line in _files(release, state)),
        *(("left out", line) for line in release.left_out[:LISTED]),
        *(("note", note) for note in notes),
    ]
    lines = [f"{label:<12}{text}".rstrip() for label, text in rows]
    return "\n".join([*lines, "", "Nothing was sent. To publish: the same command with --yes"])


def done(published: Published) -> str:
    """What was done, as text."""
    return (
        f"{published.url}/tree/{published.tag}\n"
        f"{published.files} files arrived as they were sent ({published.sent} of them now), "
        f"commit {published.commit[:12]}, tag {published.tag}"
    )


def human_size(size: float) -> str:
    """Bytes for people: `512 B`, `14.3 kB`, `2.1 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _repository(state: State | None, wishes: Wishes, *, asked: bool) -> str:
    if state is not None:
        return f"{'private' if state.private else 'public'}, there since before"
    visibility = "public" if wishes.public else "private"
    return f"new, {visibility}" if asked else f"{visibility} if it is new"


def _ledger(entries: Iterable[Entry]) -> list[str]:
    """Sources by license, the same ones once."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for entry in entries:
        counted[entry.source or "rows", entry.license or "not stated", entry.unit] += (
            entry.count or 0
        )
    return [
        f"{source}: {name}" + (f", {count} {unit}" if count else "")
        for (source, name, unit), count in counted.items()
    ][:LISTED]


def _files(release: Release, state: State | None) -> list[str]:
    todo = changes(release, state.files if state else {})
    sent = {file.path for file in todo.send}
    lines = [
        f"{file.path:<44} {human_size(file.size):>9}  {_fate(file.path, sent, state)}"
        for file in release.files[:LISTED]
    ]
    if len(release.files) > LISTED:
        lines.append(f"... and {len(release.files) - LISTED} more")
    return lines + [f"{path:<44} {'':>9}  to be removed" for path in todo.remove[:LISTED]]


def _fate(path: str, sent: set[str], state: State | None) -> str:
    if path not in sent:
        return "there already"
    return "replaces another" if state and path in state.files else "new"
