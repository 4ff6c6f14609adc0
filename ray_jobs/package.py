"""How large the package of a submitted job would be: `python -m ray_jobs.package [FOLDER]`.

`ray job submit --working-dir .` sends the folder to every node, without what `.rayignore` and
`.gitignore` name. Ray refuses some hundred megabytes after minutes of packing; here it takes a
moment, and the largest parts are named. Exit code 2 when it is too large.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from usersim.errors import InputError

LARGEST = 20 << 20  # bytes: code and recipes are below one megabyte
IGNORING = (".gitignore", ".rayignore")


def files_of(folder: Path) -> Iterator[Path]:
    """The files that would be sent: those that no ignore file on the way names.

    Links are followed, as Ray follows them. Raises InputError for what is no folder, and for links
    round in a circle, which Ray would follow dozens of times.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder to submit")
    yield from _files(folder, [], ())


def _files(
    folder: Path, rules: list[tuple[Path, "object"]], above: tuple[Path, ...]
) -> Iterator[Path]:
    import pathspec

    if folder.resolve() in above:
        raise InputError(f"{folder} leads back to a folder it is in: name it in .rayignore")
    above = (*above, folder.resolve())
    own = [folder / name for name in IGNORING if (folder / name).is_file()]
    specs = [
        (folder, pathspec.PathSpec.from_lines("gitwildmatch", p.read_text().splitlines()))
        for p in own
    ]
    rules = [*rules, *specs]
    for path in sorted(folder.iterdir()):
        if any(_names(spec, path, root) for root, spec in rules):
            continue
        if path.is_dir():
            yield from _files(path, rules, above)
        elif path.is_file():
            yield path


def _names(spec: object, path: Path, root: Path) -> bool:
    relative = str(path.relative_to(root)) + ("/" if path.is_dir() else "")
    return bool(spec.match_file(relative))  # type: ignore[attr-defined]


def check(folder: Path, largest: int = LARGEST) -> int:
    """The package's size in bytes. Raises InputError when it is above `largest`."""
    sizes: Counter[str] = Counter()
    for path in files_of(folder):
        top, *below = path.relative_to(folder).parts
        sizes[f"{top}{os.sep}" if below else top] += path.stat().st_size
    total = sizes.total()
    if total > largest:
        parts = ", ".join(f"{name} {size >> 20} MB" for name, size in sizes.most_common(3))
        raise InputError(
            f"the package of {folder} would be {total >> 20} MB, more than {largest >> 20} MB"
            f" ({parts}): name what no node needs in .rayignore"
        )
    return total


def main() -> None:
    """Print the size, or what is wrong with it."""
    try:
        total = check(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    except InputError as error:
        sys.stderr.write(f"realchat: {error}\n")
        sys.exit(error.exit_code)
    sys.stdout.write(f"{total / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()
