"""Every text that recurrent cells are searched and trained on, under one roof."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from depthsearch.data.text import TEXT_SETS, Text, generated_text, most_frequent, read_text

GENERATED = "generated"  # a text that needs no files
TEXTS = (*TEXT_SETS, GENERATED)


@cache
def text_part(name: str, root: Path, n_train: int | None = None, n_words: int | None = None) -> Text:
    """A text of `TEXTS`, or the first words of its training part.

    Args:
        n_train: how many of them; None for all.
        n_words: size of the vocabulary, as in `most_frequent`; None for that of the whole training part.

    Raises:
        DataError: a file is missing, empty, damaged or of another vocabulary.
        ValueError: the training part has fewer words than are wanted, or the vocabulary has.
    """
    text = _read(name, root)
    if n_train is not None and n_train > len(text.train):
        raise ValueError(f"{name} has {len(text.train):,} words to train on, {n_train:,} are wanted")
    text = text if n_words is None else most_frequent(text, n_words)
    return replace(text, train=text.train[:n_train])


@cache
def _read(name: str, root: Path) -> Text:
    return generated_text() if name == GENERATED else read_text(name, root)
