"""Of results/genotypes.md what is of texts alone: searches of recurrent cells, and which learning rates they have."""

import pandas as pd

from depthsearch.reporting.judging.tuning import TUNING_TEXT, tuned, tuned_text
from depthsearch.reporting.pages.cells import moved_table
from depthsearch.reporting.pages.rates import TUNED_BY, rule_said, tuning_table
from depthsearch.reporting.tables.genotypes import PUBLISHED, RANDOM_CELLS
from depthsearch.reporting.tables.rate_scans import TEXT_RATES, for_tuning
from depthsearch.reporting.words import counts_said, markdown
from depthsearch.studies.recurrent_genotypes import LSTM

KINDS = ("DARTS", "DARTS 2nd order", "DrNAS", *PUBLISHED, LSTM, RANDOM_CELLS)  # that the rule holds against each other
JUDGED = """The search learns its mixing weights on the validation part, and a training keeps the epoch that is best
there, so cells are judged on the test part alone, which nothing has looked at. Of an LSTM and of a published cell each
seed is an observation, and each published cell is a kind of its own. A cell of other than eight nodes, and the LSTM,
have the width at which they come closest to as many parameters."""
MOVED = """Entropy of the mixing weights, nats, a mean over the 36 edges; where all five options, "none" among them, are
alike it is ln 5 = 1.609. Changes: how often, over all epochs, the largest option of an edge became another. Operation
evaluations: operations that words pass, forward, all told. Seconds are wall time beside other work on the machine, so
they are upper bounds. The second order is DARTS's: the gradient that its product is taken along is clipped to 0.25 too,
so that term is smaller than in the paper's equation 7, by as much as the gradient was larger. **A search whose entropy
and largest options stay where they were has found nothing.**"""
SEARCHED = {
    "width": "width {}",
    "epochs_limit": "{} epochs",
    "n_train": "the first {} words of the training part",
    "n_words": "a vocabulary of {} words",
    "batch_size": "batches of {}",
    "bptt": "{} words a step of backpropagation",
}


def searches_part(searched: pd.DataFrame) -> list[str]:
    """How far the searches on a text went, of rows of the table `cells`."""
    size = (
        f"Searches: {counts_said(searched, SEARCHED)}; the mixing weights are learnt on the validation part, from its "
        "beginning in every epoch, as far as the words for the other weights reach."
    )
    return ["### How far the searches went, and what they cost", size, MOVED, markdown(moved_table(searched))]


def rates_said(rows: pd.DataFrame) -> str:
    """At which learning rates the networks of a text were trained: those of the cells, and of the LSTM where others."""
    rates = rows.groupby(rows["kind"].eq(LSTM).map({False: "cells", True: LSTM}))["learning_rate"].unique()
    said = {name: ", ".join(f"{rate:g}" for rate in sorted(own)) for name, own in rates.items()}
    alike = len(set(said.values())) == 1
    return f", learning rate {' and '.join(set(said.values()) if alike else (f'{v} ({k})' for k, v in said.items()))}"


def tuning_part(trained: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """The learning rates that were tried on a text, and what was taken by `TUNING_TEXT`.

    Args:
        trained: of the table `genotypes`, and
        cells: of the table `cells` what is shown of one text.
    """
    searched, networks = alpha_rates(cells), training_rates(trained)
    if searched.empty and networks.empty:
        return []
    started = pd.concat([searched["started"], networks["started"]])
    text = ["### The learning rates at the reduced size", rule_said(TUNING_TEXT, started)]
    if len(searched):
        entropies = {"entropy, start": ("entropy_start", 3), **TUNED_BY, "fall of the entropy": ("fall", 3)}
        text += [f"Of alpha, in searches of {counts_said(searched, SEARCHED)}:"]
        text.append(markdown(tuning_table(searched, tuned_text(searched), KINDS, entropies)))
    if len(networks):
        by = {"validation perplexity": ("end_loss", 2)}
        text += ["Of training; these networks are left out of what is said above, and of its figures:"]
        text.append(markdown(tuning_table(networks, tuned(networks), (), by)))
    return text


def alpha_rates(cells: pd.DataFrame) -> pd.DataFrame:
    """Of the table `cells` the searches that rates of alpha were tuned on, with what `tuned_text` asks."""
    rows = cells[cells["scan"] == TEXT_RATES]
    return rows.assign(fall=rows["entropy_start"] - rows["entropy_end"])


def training_rates(trained: pd.DataFrame) -> pd.DataFrame:
    """Of the table `genotypes` the trainings that learning rates were tuned on, with what `tuned` asks."""
    rows = trained[for_tuning(trained)]
    if rows.empty:
        return rows
    kinds = rows["name"].map(lambda name: LSTM if name == LSTM else RANDOM_CELLS)
    rows = rows.sort_values("name", ascending=False, kind="stable")  # the cell first
    return rows.assign(kind=kinds, setting=rows["learning_rate"], end_loss=rows["valid_perplexity"])
