"""Data files: what is said where they are missing or damaged, and how they are written, whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
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
        part.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {error.strerror}") from None
