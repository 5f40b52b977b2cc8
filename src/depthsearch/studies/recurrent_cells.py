"""Searches of the recurrent cell of DARTS (Liu, Simonyan & Yang 2019, arXiv 1806.09055, section 3.1.2) on texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from depthsearch.cells.genotype import RecurrentGenotype
from depthsearch.cells.language import SEARCH_DROPOUTS
from depthsearch.cells.recurrent import OPERATIONS, recurrent_search_network
from depthsearch.data.text import Text
from depthsearch.learning.text_parts import TextParts
from depthsearch.studies.plans import RECURRENT, Plan
from depthsearch.studies.searches import CellSearch, show_genotype, slug
from depthsearch.studies.texts import TEXTS, text_part


@dataclass(frozen=True, kw_only=True)
class RecurrentCell(CellSearch):
    """One strategy on the recurrent space: weights by the training part of a text, mixing weights by its validation
    part, so that a cell it finds can be judged on the test part only.

    The genotype is in `genotype.json` of the run folder, from the first epochs on.

    Attributes:
        data_set: a name of `TEXTS`.
        width: of the embedding, the hidden state and the output.
        bptt: words of a step of backpropagation.
        n_train: words of the training part, the first ones; None for all. The vocabulary is that of all.
        n_words: size of the vocabulary, as in `most_frequent`; None for all words.
        dropout: of the cell's input and output; the others are the paper's.
    """

    data_set: str = "PTB"
    width: int = 300
    batch_size: int = 256
    bptt: int = 35
    n_train: int | None = None
    n_words: int | None = None
    dropout: float = SEARCH_DROPOUTS["dropout"]

    name: ClassVar[str] = "recurrent cells"
    data_sets: ClassVar[Sequence[str]] = TEXTS
    precisions: ClassVar[Sequence[str]] = ("float32", "tf32")  # a hidden state that is carried on keeps its digits
    PLANS: ClassVar[Mapping[str, Plan]] = RECURRENT
    REDUCED: ClassVar[Mapping[str, Any]] = {
        "width": 64,
        "batch_size": 64,
        "bptt": 10,
        "n_train": 50_000,
        "n_words": 1000,
        "epochs": 4,
        "dropout": 0.1,
    }
    # From `experiments/scan_recurrent_rates.py`.
    TUNED: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "DARTS": {"alpha_rate": 0.3},
        "DARTS 2nd order": {"alpha_rate": 0.1},
        "DrNAS": {"alpha_rate": 0.3},
    }
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "width": "of the search network (default 300)",
        "bptt": "words of a step of backpropagation (default 35)",
        "n_train": "words of the training part (default all)",
        "n_words": "size of the vocabulary (default all words; of fewer the most frequent)",
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
        """Errors as of `text_part`."""
        return text_part(self.data_set, root, self.n_train, self.n_words)

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
        sizes = {"width": self.width, "bptt": self.bptt, "training words": self.n_train, "words": self.n_words}
        return sizes | super().counts()

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
        return super()._wrong_size()

    def show(self, history: Sequence[dict], folder: Path) -> None:
        show_genotype(history, folder)
