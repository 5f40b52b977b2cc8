"""Searches of the recurrent cell of DARTS (Liu, Simonyan & Yang 2019, arXiv 1806.09055, section 3.1.2) on texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from depthsearch.cells.genotype import RecurrentGenotype
from depthsearch.cells.language import SEARCH_DROPOUTS
from depthsearch.cells.recurrent import OPERATIONS, recurrent_search_network
from depthsearch.data.text import TEXT_SETS, Text, generated_text, read_text
from depthsearch.learning.text_parts import TextParts
from depthsearch.studies.plans import RECURRENT, Plan
from depthsearch.studies.searches import CellSearch, show_genotype, slug

GENERATED = "generated"


@dataclass(frozen=True, kw_only=True)
class RecurrentCell(CellSearch):
    """One strategy on the recurrent space: weights by the training part of a text, mixing weights by its validation
    part, so that a cell it finds can be judged on the test part only.

    The genotype is in `genotype.json` of the run folder, from the first epochs on.

    Attributes:
        data_set: a name of `TEXT_SETS`, or `GENERATED`, a text that needs no files.
        width: of the embedding, the hidden state and the output.
        bptt: words of a step of backpropagation.
        n_train: words of the training part, the first ones; None for all. The vocabulary is that of all.
        dropout: of the cell's input and output; the others are the paper's.
    """

    data_set: str = "PTB"
    width: int = 300
    batch_size: int = 256
    bptt: int = 35
    n_train: int | None = None
    dropout: float = SEARCH_DROPOUTS["dropout"]

    name: ClassVar[str] = "recurrent cells"
    data_sets: ClassVar[Sequence[str]] = (*TEXT_SETS, GENERATED)
    precisions: ClassVar[Sequence[str]] = ("float32", "tf32")  # a hidden state that is carried on keeps its digits
    PLANS: ClassVar[Mapping[str, Plan]] = RECURRENT
    REDUCED: ClassVar[Mapping[str, Any]] = {
        "width": 64,
        "batch_size": 32,
        "n_train": 100_000,
        "epochs": 10,
        "alpha_rate": 0.01,
        "dropout": 0.25,
    }
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "width": "of the search network (default 300)",
        "bptt": "words of a step of backpropagation (default 35)",
        "n_train": "words of the training part (default all)",
        "batch_size": "rows of each part that are read side by side (default 256)",
        "first_seed": "of the first repeat (default 0)",
    }
    RATES: ClassVar[Mapping[str, str]] = {
        **CellSearch.RATES,
        "dropout": f"of the cell's input and output (default {SEARCH_DROPOUTS['dropout']})",
    }

    def dropouts(self) -> dict[str, float]:
        """All of them, by the names of `Dropouts`."""
        return SEARCH_DROPOUTS | {"dropout": self.dropout, "dropoutx": self.dropout}

    def text(self, root: Path) -> Text:
        """
        Raises:
            DataError: a file is missing, empty, damaged or of another vocabulary.
            ValueError: the training part has fewer words than are wanted.
        """
        text = _read(self.data_set, root)
        if self.n_train is not None and self.n_train > len(text.train):
            raise ValueError(f"{self.data_set} has {len(text.train):,} words to train on, {self.n_train:,} are wanted")
        return replace(text, train=text.train[: self.n_train])

    def space(self, root: Path) -> nn.Module:
        return recurrent_search_network(self.text(root).n_words, self.width, **self.dropouts())

    def task(self, seed: int, root: Path) -> TextParts:
        text = self.text(root)
        return TextParts(text.train, text.valid, self.batch_size, self.bptt)

    def points(self, seed: int, root: Path) -> int:
        return len(self.text(root).train)

    def costs(self) -> dict[str, torch.Tensor]:
        return {"recurrent": torch.tensor([name != "none" for name in OPERATIONS])}

    def described(self, architecture: RecurrentGenotype) -> dict:
        return {"architecture": architecture.to_json()}

    def counts(self) -> dict[str, int | None]:
        return {"width": self.width, "bptt": self.bptt, "training words": self.n_train} | super().counts()

    # What the running wing asks.

    @property
    def threads(self) -> int | None:
        # A small network is best searched on a core, another one on the next.
        return 1 if self.width < 128 else None

    @property
    def cost(self) -> float:
        return self.width * (self.n_train or 1_000_000) * self.plan.epochs * self.plan.architect.passes

    def configuration(self) -> dict:
        return super().configuration() | {"dropouts": self.dropouts(), "temporal": TextParts.temporal}

    def title(self) -> str:
        return f"{slug(self.kind)}_width{self.width}_epochs{self.plan.epochs}"

    def _wrong_size(self) -> str | None:
        if not 0 <= self.dropout < 1:
            return f"dropout is a probability from 0 to below 1, got {self.dropout}"
        if self.batch_size == 1:
            return "the batch norm of the recurrent space needs a batch size of 2 or more, got 1"
        return super()._wrong_size()

    def show(self, history: Sequence[dict], folder: Path) -> None:
        show_genotype(history, folder)


@cache
def _read(name: str, root: Path) -> Text:
    return generated_text() if name == GENERATED else read_text(name, root)
