"""By which rules claims are judged, since when, and what was changed after runs that they judge had been seen.

All judge a 95 % interval, of at least `FEWEST` paired repeats, by where the whole of it lies. An interval on both sides
of a margin is "undecided", whatever the claim.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from depthsearch.reporting.intervals import Interval

FEWEST = 4  # repeats for a verdict: of fewer, an interval may have no width by chance
# What counts as no cost: shares of errors, nats; at most this share of what the reference has, or on easy data nothing
# could ever count as worse. What counts as staying put: layers a layer.
ERROR_MARGIN, LIKELIHOOD_MARGIN, MARGIN_SHARE, SLOPE_MARGIN = 0.005, 0.02, 0.1, 0.1
LEVEL = 0.05  # of a p-value, corrected for the number of comparisons
STEADY_FROM = 20  # d_opt is held against D from here on: below, D itself may be what limits it
UNSEEN = "no difference seen"
TAKEN_BACK = f"{UNSEEN} once corrected"  # the interval alone excludes 0


def no_worse(interval: Interval, margin: float) -> str:
    """ "It costs nothing": differences are costs, positive is worse."""
    _, low, high, _ = interval
    if high <= margin:
        return "reproduced: worse, within the margin" if low > 0 else "reproduced"
    if low > margin:
        return "not reproduced"
    return "undecided: worse, not clear whether by more than the margin" if low > 0 else "undecided"


def less(interval: Interval, margin: float = 0.0) -> str:
    """ "It is less", by more than the margin."""
    _, low, high, _ = interval
    return "reproduced" if high < -margin else "not reproduced" if low > -margin else "undecided"


def more(interval: Interval, margin: float = 0.0) -> str:
    """ "It is more", by more than the margin."""
    return less(interval.negated(), margin)


def still(interval: Interval, margin: float) -> str:
    """ "It stays put": neither more nor less, up to the margin."""
    _, low, high, _ = interval
    if -margin <= low and high <= margin:
        return "reproduced"
    if low > margin or high < -margin:
        return "not reproduced"
    how = "grows" if low > 0 else "falls" if high < 0 else ""
    return f"undecided: {how}, not clear whether by more than the margin" if how else "undecided"


def difference_seen(interval: Interval, p: float, margin: float = 0.0, counted: str = "repeats") -> str:
    """Better, worse or neither seen, of a difference of costs, by its interval and its corrected p-value.

    By little: the interval reaches to where it is within the margin.
    """
    _, low, high, n = interval
    if n < FEWEST:
        return f"needs {FEWEST} {counted}"
    if not (low > 0 or high < 0) or math.isnan(p):
        return UNSEEN
    if not p < LEVEL:
        return TAKEN_BACK
    side, least = ("better", -high) if high < 0 else ("worse", low)
    return side if least > margin else f"{side}, by little"


@dataclass(frozen=True)
class Rule:
    """How one claim is judged.

    Attributes:
        claim: of the paper.
        judged: the difference that is taken.
        says: which intervals reproduce the claim, in words.
        verdict: the same as a function of an interval and a margin.
        since: when it was written (UTC).
        changed: what was changed then, after runs that it judges had been seen.
        scans: of the runs that it judges, the beginnings of the names.
    """

    claim: str
    judged: str
    says: str
    verdict: Callable[[Interval, float], str]
    since: str
    changed: str
    scans: tuple[str, ...]

    def judge(self, interval: Interval, margin: float) -> str:
        """The verdict on an interval; "undecided" of too few repeats."""
        return f"undecided: needs {FEWEST} repeats" if interval.n < FEWEST else self.verdict(interval, margin)

    def older(self, runs: pd.DataFrame) -> tuple[int, int]:
        """How many runs that it judges are older than it, and how many there are; of unknown age counts as older."""
        judged = runs[runs["scan"].str.startswith(self.scans)]
        return int((judged["started"].fillna("") < self.since).sum()), len(judged)


COST = f"whole interval below the margin: of errors {100 * ERROR_MARGIN:g} points, of log-likelihoods \
{LIKELIHOOD_MARGIN:g} nats, or {100 * MARGIN_SHARE:g} % of the loss that is subtracted where that is less"
DEPTH_SCANS = ("scan_max_depth_", "scan_deterministic_depth_")
CHANGED_AT = "2026-11-28T09:10"
HALVES_AT = "2026-11-30T17:20"
SELECTED_AT = "2026-11-29T11:02"  # since when epochs are selected as now where points of spirals are held out
# Of the scans of D on spirals the first 16 repeats left most claims undecided. How many there are to be in the end was
# written here then, and before any of the others ran; none is added after them.
ADDED_FROM, REPEATS, ADDED_AT = 16, 64, "2026-11-30T22:55"

SELECTION = "where points are held out the epoch is selected otherwise since 2026-11-29, of LDN on images since \
2026-11-30"

PRUNING = Rule(
    "1. Pruning to d_opt costs nothing",
    "LDN-95 minus LDN-full, at the reference D of LDN",
    COST,
    no_worse,
    "2026-11-30T19:55",
    "before, it was averaged over all D: where nothing is cut the difference is 0, which made it look small; until "
    f"2026-11-30 on images at the D of claims 2 and 3, a smaller one; {SELECTION}",
    ("scan_max_depth_",),
)
SEARCH = Rule(
    "2. One LDN run matches the best depth of manual search",
    "LDN-95 at the reference D minus the best DDN",
    COST,
    no_worse,
    HALVES_AT,
    "the best DDN was chosen on the repeats that it was judged on, by their test points until 2026-11-28, by their "
    "validation points until 2026-11-30, when for some hours the first half of the repeats chose for the second and "
    "the second for the first: which repeats were in which half decided verdicts; now the repeats are halved in all "
    'ways, and the interval is a jackknife, which made a "not reproduced" "undecided, but worse" (error on spirals, a '
    f"quarter held out; of 2026-11-30); {SELECTION}",
    DEPTH_SCANS,
)
CALIBRATION = Rule(
    "3. Marginalising over depth is better calibrated than a regular network",
    "ECE of LDN-full at the reference D minus that of a DDN",
    "whole interval below 0",
    less,
    HALVES_AT,
    'an interval on both sides of 0 was "not reproduced"; the best DDN as in claim 2: that no repeat chooses for '
    f'itself made a "not reproduced" undecided (spirals, a quarter held out; of 2026-11-29); {SELECTION}',
    DEPTH_SCANS,
)
STEADY = Rule(
    "4a. The chosen depth stays put as D grows",
    f"slope of d_opt against D, D >= {STEADY_FROM}",
    f"whole interval within ±{SLOPE_MARGIN:g} layers a layer",
    still,
    CHANGED_AT,
    f"a depth that falls as D grows counted as staying put; {SELECTION}",
    ("scan_max_depth_",),
)
DIFFICULTY = Rule(
    "4b. The chosen depth follows the difficulty",
    "slope of d_opt against the angle; d_opt of Fashion-MNIST minus that of MNIST",
    "whole interval above 0",
    more,
    CHANGED_AT,
    f'an interval on both sides of 0 was "not reproduced"; {SELECTION}',
    ("scan_spiral_complexity", "scan_max_depth_images"),
)
GUESSING = Rule(
    "Choosing a depth is better than guessing one",
    "regret minus that of always D, of always D/2, of a uniform guess",
    f"whole interval below 0 and Holm's p < {LEVEL:g}; by little: within {LIKELIHOOD_MARGIN:g} nats",
    less,
    "2026-11-28T10:30",
    "nothing was held against guesses; point means within 0.02 nats of the least counted as the best; since 2026-11-29 "
    "three strategies have lower learning rates on spirals, by a rule written when they had been seen, and new runs",
    ("scan_strategies",),
)
RULES = (PRUNING, SEARCH, CALIBRATION, STEADY, DIFFICULTY, GUESSING)

# Of searched cells, on a page of their own.
BETTER_CELLS = Rule(
    "DrNAS finds better cells than DARTS, and than random search of equal cost",
    "true accuracy of the cell found, DrNAS or DrNAS progressive minus DARTS of first order or random search",
    f"whole interval above 0 and Holm's p < {LEVEL:g} over the four differences of a data set",
    more,
    "2026-11-28T11:01",
    "",
    ("scan_nasbench201",),
)

# Of searched cells of DARTS, trained from scratch.
SEARCH_HELPS = Rule(
    "A searched cell is better than a random one",
    "test error after one training from scratch, alike for all: cells of a strategy minus random cells of the space",
    f"whole interval below 0 (Welch's, unpaired: an observation is a cell) and Holm's p < {LEVEL:g} over all kinds of "
    f"cells that are held against random ones; by little: it reaches within {100 * ERROR_MARGIN:g} points of 0; "
    f"{FEWEST} cells or more on both sides",
    less,
    "2026-11-28T14:52",
    "",
    ("train_genotype",),
)

# Of searched recurrent cells, trained from scratch with as many parameters.
BETTER_RECURRENT = Rule(
    "A searched recurrent cell is better than a random one, and than an LSTM, of equal size and training",
    "test perplexity, cells of a strategy minus random cells, minus an LSTM, minus each published cell",
    f"whole interval below 0 (Welch's, unpaired: an observation is a cell, or a seed of an LSTM or published cell) and "
    f"Holm's p < {LEVEL:g} over all these differences; {FEWEST} or more on both sides",
    less,
    "2026-11-28T14:58",
    "",
    ("train_genotype",),
)

# Of what could make a learnt depth err less. Seeds from `CHOOSING` on choose, those below confirm.
REPAIR = Rule(
    "Changing one thing makes a learnt depth err less",
    "test error of LDN-95 of a variation minus the paper's, D = 20, seeds 0 to 15; taken is the variation, with q as "
    "learnt or refitted, of the lowest mean test error of LDN-95 on seeds 100 to 115, the paper's own left out",
    "whole interval below 0; it hurts where that of the AUROC under shift (entropy of LDN-full, means over amounts) or "
    "of the test log-likelihood of LDN-95 lies wholly on the worse side of 0",
    less,
    "2026-11-28T18:46",
    "",
    ("scan_learnt_depth",),
)

COUNTING_CELLS = Rule(
    "Learning how many cells stand in a row costs nothing",
    "test error of the chain cut at d_opt minus that of the chain of fixed depth D, and that of one of depth d_opt "
    "trained from scratch minus the same; a mean over the repeats of each cell, over cells",
    COST,
    no_worse,
    "2026-11-28T14:36",
    "the rule was not; the epoch of a learnt chain was selected by the ELBO until 2026-11-30, and all were run again, "
    "with four repeats a cell instead of two",
    ("scan_cell_depth",),
)


def rules_table(runs: pd.DataFrame, rules: Sequence[Rule] = RULES) -> pd.DataFrame:
    """The rules, since when they hold, and how many of the runs that they judge are older."""
    rows = []
    for rule in rules:
        older, of = rule.older(runs)
        row = {"claim": rule.claim, "difference": rule.judged, "reproduced": rule.says, "since": rule.since[:10]}
        rows.append(row | {"older runs": f"{older} of {of}", "changed after seeing them": rule.changed})
    return pd.DataFrame(rows)
