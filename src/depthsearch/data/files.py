"""Data files: what is said where they are missing or damaged, and how they are written, whole or not at all."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


class DataError(Exception):
    """A data set that is unknown, missing or damaged: one line that says what is wrong and what to do."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file to write; it gets the name `path` when the block ends, so that a stop in between leaves no half one there.

    Raises:
        DataError: it cannot be written; nothing of it stays.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise DataError(f"{path} cannot be written: {error.strerror}") from None


def convert_trusted(
    name: str, source: str, out: Path, convert: Callable[[Path, Path], None], arguments: Sequence[str] | None = None
) -> Path:
    """The command line of a file that is made from pickles: they are opened for who says that they are to be trusted.

    Args:
        name: of the module.
        source: what the official files are, in words.
        out: the file that is made, if no other is given.
        convert: of the official files and the path to write.

    Returns:
        the path; what is wrong is said in a line, with exit status 2.
    """
    parser = argparse.ArgumentParser(prog=name, description=f"Makes {out.name}.")
    parser.add_argument("--from", dest="source", type=Path, required=True, help=f"official {source}")
    parser.add_argument("--out", type=Path, default=out, help="what is made (default %(default)s)")
    parser.add_argument("--trust", action="store_true", help="open pickles, which can run any code")
    options = parser.parse_args(arguments)
    try:
        if not options.trust:
            raise DataError(
                f"{options.source} is made of pickles, which can run any code when they are opened; "
                "with --trust they are: do so if you have them from their authors"
            )
        convert(options.source, options.out)
    except DataError as problem:
        print(f"{name}: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    return options.out
