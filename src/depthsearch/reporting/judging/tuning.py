"""Which learning rate of the mixing weights a strategy has at the reduced size, by a rule that was written before."""

import pandas as pd

TUNING = (
    "2026-11-28T10:11",
    "Every strategy has three settings and two seeds, 100 and 101, which the tables do not have. Taken is the "
    "setting of the lowest validation loss that the search itself ends with, a mean over seeds; of equals the first. "
    "That is its mean over the last quarter of the epochs, in training mode, on the half that alpha is learnt on; of "
    "random search the loss of the cell that it chose. No trained cell of the table is looked at.",
)
LEAST_FALL = 0.1  # of the entropy of a recurrent search, nats
# Of recurrent cells; it fills in `TUNED` of their searches and the rates of the preset "reduced-text".
TUNING_TEXT = (
    "2026-11-28T15:29",
    "Every strategy has three learning rates of alpha (0.03, 0.1, 0.3) and one seed, 100, on half of the words of "
    "the reduced search. Taken is the one of the lowest validation loss that the search ends with, as for images, "
    f"among those with which the entropy of the weights falls by {LEAST_FALL:g} nats or more, else the largest: a "
    "search must leave its start. (The entropy was asked for after first trials of DARTS, with batches of 128, in "
    "which 0.01 and 0.03 left it at 1.61 and 1.59 nats of 1.61.) Training has three learning rates (5, 10, 20) on "
    "the same seed, of a random cell and of an LSTM: taken is that of the lowest perplexity on the validation "
    "part, and every cell of the space, random, found or published, has the random cell's. No test part is looked "
    "at.",
)
# Of ways of choosing a depth.
TUNING_DEPTH = (
    "2026-11-28T18:02",
    "Every strategy has three learning rates and eight runs of each: spirals of 450 and of 810 degrees, which the "
    "comparison does not have, four repeats. It is that of alpha, the weights of depths, for DARTS and DrNAS (0.003, "
    "0.02, 0.1), of the network for all others (0.03, 0.1, 0.3); the networks of the pool, of depth 8 and 16, stand "
    "for manual search, random search, the predictor and what is retrained. Taken is the rate of the highest "
    "validation log-likelihood of the network as searched, a mean over its runs, where a run that diverged counts as "
    'minus infinity; of equals the lowest rate. No test point is looked at. "DARTS (paper)" has the paper\'s rate, and '
    "no tuning. For images the rates of alpha are the same, and all networks have the paper's.",
)
TUNING_BELOW = (
    "2026-11-29T14:18",
    "Those that did best with the lowest of their three rates are given two more, about a third and a tenth of it, and "
    "the best of the five is taken by the same rule, on spirals; for images the weights of depths keep the best of "
    "three.",
)


def tuned(runs: pd.DataFrame) -> dict[str, float]:
    """The setting of each strategy by the rule: {kind: rate}, from rows with `kind`, `setting`, `end_loss`.

    One of which some run has no loss, because it diverged, is not taken; a strategy may have none then.
    """
    means = _known(runs).groupby(["kind", "setting"], sort=True, as_index=False)["end_loss"].mean()
    best = means.loc[means.groupby("kind")["end_loss"].idxmin()]
    return {str(kind): float(setting) for kind, setting in zip(best["kind"], best["setting"], strict=True)}


def tuned_text(runs: pd.DataFrame) -> dict[str, float]:
    """As `tuned`, of recurrent cells: from rows with the `fall` of the entropy (nats), too."""
    runs = _known(runs)
    moved = runs[runs["fall"] >= LEAST_FALL]
    return {str(kind): float(own["setting"].max()) for kind, own in runs.groupby("kind")} | tuned(moved)


def _known(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of settings all of whose runs have a loss."""
    losses = runs.groupby(["kind", "setting"])["end_loss"]
    return runs[losses.transform("count") == losses.transform("size")]
