"""A recurrent cell on trial: its language model, trained from scratch (arXiv 1806.09055, appendix A.2.2)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import ClassVar

import torch
from torch import nn

from depthsearch.cells.genotype import RecurrentGenotype
from depthsearch.cells.language import (
    PTB_DROPOUTS,
    WIKITEXT2_DROPOUTS,
    Dropouts,
    LanguageModel,
    nearest_width,
)
from depthsearch.cells.lstm import lstm_network, lstm_width
from depthsearch.cells.recurrent import recurrent_network, recurrent_size
from depthsearch.data.files import DataError
from depthsearch.data.text import Text, batchify
from depthsearch.learning.single import Fitted
from depthsearch.learning.text import TextLearner, TextTraining, evaluate, perplexity
from depthsearch.studies.alone import fields_in
from depthsearch.studies.depth import seeded
from depthsearch.studies.genotype_options import OfGenotype
from depthsearch.studies.texts import GENERATED, TEXTS, text_part

LSTM = "LSTM"  # a control: it stands where a genotype does


@dataclass(frozen=True, kw_only=True)
class TrainRecurrent(OfGenotype):
    """One genotype of a recurrent cell, the size of its language model, its text and how it is trained.

    The state of the lowest loss on the validation part is kept, and tested.

    Attributes:
        genotype: JSON text, what else `cells.genotype` takes is turned into that; or `LSTM`.
        data_set: a name of `TEXTS`.
        width: of the embedding, the hidden state and the output, for a cell of eight nodes. Any other cell has the
            width at which it comes closest to as many parameters.
        n_train, n_words: as of `text_part`.
        first_seed: of repeat 0.
        dropouts: of training.
        recipe: how it is trained.
    """

    genotype: str = "DARTS_V2_RNN"
    data_set: str = "PTB"
    width: int = 850
    n_train: int | None = None
    n_words: int | None = None
    first_seed: int = 0
    dropouts: Dropouts = Dropouts(**PTB_DROPOUTS)  # noqa: RUF009
    recipe: TextTraining = TextTraining()  # noqa: RUF009

    name: ClassVar[str] = "recurrent genotype"
    required: ClassVar[frozenset[str]] = frozenset({"test", "parameters"})
    cells = RecurrentGenotype

    @property
    def label(self) -> str:
        return LSTM if self.genotype == LSTM else super().label

    # What the running wing asks.

    @property
    def threads(self) -> int | None:
        # A small network is best trained on a core, another one on the next.
        return 1 if self.width < 128 else None

    @property
    def cost(self) -> float:
        return float(self.recipe.epochs * self.width * (self.n_train or 1_000_000))

    def configuration(self) -> dict:
        fields = asdict(self)
        training = fields.pop("recipe")
        return json.loads(json.dumps({"study": self.name, **fields, "training": training}))

    @classmethod
    def from_configuration(cls, configuration: dict) -> "TrainRecurrent":
        """The study of a saved run."""
        values = fields_in(cls, configuration)
        values["dropouts"] = Dropouts(**values["dropouts"])
        return cls(**values, recipe=TextTraining(**configuration["training"]))

    def title(self) -> str:
        return f"{self.label}_width{self.width}_epochs{self.recipe.epochs}"

    def problem(self, data: Path | None = None) -> str | None:
        if self.data_set not in TEXTS:
            return f"no text {self.data_set!r}; there are {', '.join(TEXTS)}"
        if self.width < 1 or self.first_seed < 0:
            return f"the width must be 1 or more and the first seed not negative, got {self.width}, {self.first_seed}"
        for name, value in {"training words": self.n_train, "words": self.n_words}.items():
            if value is not None and value < 1:
                return f"{name} must be 1 or more, got {value}"
        try:
            seeded(0, partial(self.network, 2))
            if data is not None:
                text = self.batches(0, data)
                for words, rows in ((text.train, self.recipe.batch_size), (text.valid, self.recipe.eval_batch_size)):
                    batchify(words, rows)
        except (ValueError, DataError) as wrong:
            return str(wrong)
        return None

    def network(self, n_words: int) -> LanguageModel:
        """A new one, its weights drawn from torch's generator."""
        equal = recurrent_size(n_words, self.width)
        if self.genotype == LSTM:
            return lstm_network(n_words, lstm_width(n_words, equal), **asdict(self.dropouts))
        cell = self.cell
        width = nearest_width(partial(recurrent_size, n_words, nodes=len(cell.recurrent)), equal)
        return recurrent_network(cell, n_words, width, **asdict(self.dropouts))

    def forms(self, text: Text) -> list[LanguageModel]:
        """Its only network."""
        return [self.network(text.n_words)]

    def batches(self, seed: int, root: Path, device: torch.device | str = "cpu") -> Text:
        """The same text for every repeat; errors as of `text_part`."""
        return text_part(self.data_set, root, self.n_train, self.n_words)

    def learner(
        self, seeds: Sequence[int], device: torch.device, data: Path, resume: Sequence[dict] = ()
    ) -> TextLearner:
        (seed,) = seeds
        text, own = self.batches(seed, data), self.first_seed + seed
        network = seeded(own, partial(self.network, text.n_words)).to(device)
        return TextLearner(network, text, self.recipe, own, resume)

    def measure(self, network: nn.Module, text: Text) -> dict[str, dict[str, float]]:
        """Perplexity and log-likelihood (nats), a word: of the validation part, and of the test part in one row."""
        device, found = next(network.parameters()).device, {}
        for part, rows in (("valid", self.recipe.eval_batch_size), ("test", 1)):
            nats = evaluate(network, getattr(text, part).to(device), rows, self.recipe.bptt)
            found[part] = {"perplexity": perplexity(nats), "log_likelihood": -nats}
        return found

    def evaluate(self, learned: Fitted, seed: int, device: torch.device, data: Path) -> dict:
        text, network = self.batches(seed, data), learned.network
        summary: dict = {"diverged_epoch": learned.diverged_epoch}
        if learned.diverged_epoch is None:
            summary |= self.measure(network, text)
        summary |= {"parameters": network.n_parameters, "vocabulary": text.fingerprint}
        return summary | {"epochs": len(learned.history), "history": learned.history}

    def said(self, summaries: Sequence[dict]) -> str:
        perplexities = [summary["test"]["perplexity"] for summary in summaries]
        return f"test perplexity {mean(perplexities):.2f}, {summaries[0]['parameters']:,} parameters"


# As the paper trains on PTB and on WikiText-2; what two cores can do; and what needs no files.
PTB = TrainRecurrent()
FEW = Dropouts(dropout=0.1, dropouth=0.1, dropoutx=0.1, dropouti=0.1)
TEXT_PRESETS = {
    "PTB": PTB,
    "WikiText-2": replace(
        PTB,
        data_set="WikiText-2",
        width=700,
        dropouts=Dropouts(**WIKITEXT2_DROPOUTS),
        recipe=TextTraining(weight_decay=5e-7),
    ),
    "reduced-text": replace(
        PTB,
        width=64,
        n_train=100_000,
        n_words=1000,
        dropouts=FEW,
        recipe=TextTraining(epochs=6, batch_size=32, patience=1),
    ),
    GENERATED: replace(
        PTB,
        data_set=GENERATED,
        width=8,
        n_train=2000,
        dropouts=FEW,
        recipe=TextTraining(epochs=4, batch_size=10, bptt=10, patience=1),
    ),
}
