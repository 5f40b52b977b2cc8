"""Texts as word numbers: Penn Treebank (PTB), WikiText-2, and generated ones that need no files.

A text is one long row of words, each line followed by an end of sentence `<eos>`. It is cut into B rows that are read
side by side, some words at a time, the hidden state carried on from one piece to the next.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from depthsearch.data.files import DataError

END, UNKNOWN = "<eos>", "<unk>"


@dataclass(frozen=True)
class _TextSet:
    folder: str  # where the official archive unpacks to
    files: tuple[str, str, str]  # training, validation, test
    source: str


TEXT_SETS = {
    "PTB": _TextSet(
        "ptb",
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        "Mikolov's Penn Treebank, folder data of simple-examples.tgz",
    ),
    "WikiText-2": _TextSet(
        "wikitext-2",
        ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
        "wikitext-2-v1.zip of Merity et al.",
    ),
}


@dataclass(frozen=True)
class Text:
    """The three parts of a text, word numbers (N,) int64, and the words that they number."""

    train: Tensor
    valid: Tensor
    test: Tensor
    words: tuple[str, ...]

    @property
    def n_words(self) -> int:
        """V, the size of the vocabulary."""
        return len(self.words)

    @property
    def fingerprint(self) -> str:
        """Tells vocabularies apart: a network is tested on a text only if this is as it was in training."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()[:16]

    def check_vocabulary(self, fingerprint: str) -> None:
        """Raises a `DataError` unless this is the text's fingerprint."""
        if fingerprint != self.fingerprint:
            raise DataError(f"the network was trained with another vocabulary than that of these {self.n_words} words")


def read_text(name: str, root: Path) -> Text:
    """A text from its three official files: in `root`, `root/text`, their own folder in one of these, or a zip there.

    The vocabulary is that of the training part, numbered in order of appearance (10,000 words of PTB, 33,278 of
    WikiText-2).

    Raises:
        DataError: the name is unknown, a file is missing, empty or damaged, or the validation or test part has words
            that the training part lacks.
    """
    if name not in TEXT_SETS:
        raise DataError(f"no text {name!r}; there are {', '.join(TEXT_SETS)}")
    files = TEXT_SETS[name].files
    train, valid, test = (tokens(name, root, part) for part in range(3))
    numbers = {word: i for i, word in enumerate(dict.fromkeys(train))}
    for part, file in ((valid, files[1]), (test, files[2])):
        strange = next((word for word in part if word not in numbers), None)
        if strange is not None:
            raise DataError(f"{file} is of another vocabulary than {files[0]}: that lacks {strange!r}; get both again")
    numbered = (torch.tensor([numbers[word] for word in part]) for part in (train, valid, test))
    return Text(*numbered, words=tuple(numbers))


def tokens(name: str, root: Path, part: int) -> list[str]:
    """The words of one part (0 training, 1 validation, 2 test), each line followed by `END`; errors as above."""
    known = TEXT_SETS[name]
    where, content = _find(root, known, known.files[part])
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is no text in UTF-8 ({error.reason}); get it again") from None
    if not any(line.strip() for line in lines):
        raise DataError(f"{where} is empty; get it again ({known.source})")
    if not lines[-1]:
        lines.pop()  # what follows the last line feed is no line
    return [word for line in lines for word in (*line.split(), END)]


def _find(root: Path, known: _TextSet, file: str) -> tuple[Path, bytes]:
    """Where a file is, and what it holds."""
    folders = [root / inner for inner in ("", "text", known.folder, f"text/{known.folder}")]
    try:
        for folder in folders:
            if (folder / file).is_file():
                return folder / file, (folder / file).read_bytes()
        for path in (path for folder in folders[:2] for path in sorted(folder.glob("*.zip"))):
            with zipfile.ZipFile(path) as archive:
                member = next((m for m in archive.namelist() if m.rpartition("/")[2] == file), None)
                if member is not None:
                    return path / member, archive.read(member)
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"a file of the text cannot be read ({error}); get it again ({known.source})") from None
    raise DataError(f"{file} is not in {root}, nor in a zip there; get it from {known.source}")


def generated_text(n_train: int = 20_000, n_words: int = 50, seed: int = 0) -> Text:
    """A text of a Markov chain, in which every word has four successors, for demonstrations and tests.

    The training part has `n_train` words, the other two a tenth of that. The best perplexity that there is, that of the
    chain itself, is below 4, far below that of a model that knows no context.
    """
    generator = torch.Generator().manual_seed(seed)
    successors = torch.rand(n_words, n_words, generator=generator).argsort(1)[:, :4].tolist()
    chosen = torch.multinomial(
        torch.tensor([0.6, 0.2, 0.1, 0.1]), n_train + 2 * (n_train // 10), True, generator=generator
    )
    row = [0]
    for choice in chosen.tolist():
        row.append(successors[row[-1]][choice])
    parts = torch.tensor(row[1:]).split([n_train, n_train // 10, n_train // 10])
    return Text(*parts, words=tuple(f"word{i}" for i in range(n_words)))


def most_frequent(text: Text, n_words: int) -> Text:
    """The text in a vocabulary of `n_words`: the most frequent words of the training part and `UNKNOWN` for all others.

    Of equally frequent words the first in the vocabulary counts. Perplexities in two vocabularies do not compare.

    Raises:
        ValueError: that is fewer than two words, or more than there are.
    """
    if not 2 <= n_words <= text.n_words:
        raise ValueError(f"a vocabulary is cut to 2 to {text.n_words:,} words, not to {n_words:,}")
    often = torch.bincount(text.train, minlength=text.n_words)
    if UNKNOWN in text.words:
        often[text.words.index(UNKNOWN)] = -1  # it stands for all others, whatever its own place would be
    kept = often.argsort(descending=True, stable=True)[: n_words - 1]
    number = torch.full((text.n_words,), n_words - 1).scatter(0, kept, torch.arange(n_words - 1))
    parts = {part: number[getattr(text, part)] for part in ("train", "valid", "test")}
    return replace(text, **parts, words=(*(text.words[i] for i in kept.tolist()), UNKNOWN))


def batchify(words: Tensor, batch_size: int) -> Tensor:
    """A text (N,) as B rows side by side (N // B, B), the next word of each below; what is left over is dropped.

    Raises:
        DataError: the text is too short for three words a row.
    """
    n = len(words) // batch_size
    if n < 3:
        raise DataError(f"a text of {len(words)} words is too short for {batch_size} side by side; use a smaller batch")
    return words[: n * batch_size].view(batch_size, n).T.contiguous()


def pieces(rows: Tensor, lengths: Iterator[int]) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Reads rows (N, B) in pieces: words (T, B), the words that follow them (T, B), and the length that was asked for.

    The last piece is as short as it must be; one word left over is not read, as in the original.
    """
    start = 0
    while start < len(rows) - 2:
        length = next(lengths)
        stop = min(start + length, len(rows) - 1)
        yield rows[start:stop], rows[start + 1 : stop + 1], length
        start += length


def sequence_lengths(bptt: int, generator: torch.Generator, spread: float = 5.0) -> Iterator[int]:
    """Lengths of pieces, without end: N(bptt, spread^2), half of bptt in 5 % of cases, within 5 and bptt + 20.

    Merity et al. 2018 (arXiv 1708.02182), section 4.1. A spread of 0 gives bptt or half of it, rounded down, as the
    search of DARTS does.
    """
    while True:
        mean = bptt if torch.rand((), generator=generator) < 0.95 else bptt / 2
        if spread == 0:
            yield max(int(mean), 1)
            continue
        yield min(max(5, int(mean + spread * torch.randn((), generator=generator))), bptt + 20)
