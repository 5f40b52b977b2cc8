"""The text of results/learnt_depth.md: what could make a learnt depth err less."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from depthsearch.reporting.intervals import Interval, interval_of
from depthsearch.reporting.judging.manual_search import ManualSearch
from depthsearch.reporting.judging.rules import FEWEST, REPAIR, rules_table
from depthsearch.reporting.tables.variations import AS_IS, FITS, drawn_depth, with_words
from depthsearch.reporting.words import difference_said, markdown, not_shown, number, spread
from depthsearch.studies.seeds import CHOOSING

INTRO = """Generated from the saved runs by `make figures`; no number here is typed. On spirals one run of LDN may err
more than the best fixed depth ([claim 2](README.md#claims-of-the-paper) says by how much, and how sure that is), and q
lags behind the exact posterior over depth given the trained weights. Here one thing at a time is other than in the
paper: the learning rate of q, as a multiple of the network's; the weight of the KL (below 1 the likelihood counts for
more); the ratio of the geometric prior; the patience, and with it the limit on epochs. With any of them the epoch at
which training stops may change too (the column of epochs). Each trained network is measured twice: with q *as learnt*,
and *refitted*, q set to the exact posterior by one pass over the training points. All differences are paired over
repeats, with 95 % t-intervals; where the best DDN is in one, the interval is that of claim 2, a jackknife."""
COLUMNS = """d_opt: depth of LDN-95, whose test error and log-likelihood these are. KL: from q to the exact posterior.
Off the data: test points moved away from the origin, means over all amounts, predicted by LDN-full; AUROC of the
predictive entropy, for telling moved points from others: 0.5 is chance, below it moved points look more certain."""
ANEW = """*Retrained at d_opt*: the deterministic network of the depth that LDN-95 of the same repeat chose, and the
best DDN as in claim 2, from the scans of the spiral experiments, which were run at another time."""
OFF = {"test_log_likelihood": "test log-likelihood", "shift_auroc": "AUROC off the data"}  # what must not be hurt


def learnt_depth_page(rows: pd.DataFrame, ldn: pd.DataFrame, ddn: pd.DataFrame, others: Sequence[str]) -> str:
    """The text of results/learnt_depth.md.

    Args:
        rows: what is shown of the table `variations`.
        ldn: of the table `runs` the learnt depths of the spiral scan.
        ddn: the deterministic networks of the spiral scan.
        others: a line for each cohort that is not shown.
    """
    text = ["# What could make a learnt depth err less", INTRO]
    for depth, part in with_words(rows).groupby("max_depth"):
        text += _of_depth(int(str(depth)), part, ldn, ddn, depth == drawn_depth(rows))
    return "\n\n".join(text) + not_shown(others) + "\n"


def _of_depth(depth: int, rows: pd.DataFrame, ldn: pd.DataFrame, ddn: pd.DataFrame, drawn: bool) -> list[str]:
    choosing, confirming = rows[rows["seed"] >= CHOOSING], rows[rows["seed"] < CHOOSING]
    minutes, devices = rows[rows["fit"] == FITS[0]]["seconds"].sum() / 60, ", ".join(rows["device"].unique())
    text = [
        f"## D = {depth}",
        f"{minutes:.0f} minutes of training in all, beside other work ({devices}).",
        in_words(choosing, confirming),
        trained_again(rows, ldn[ldn["max_depth"] == depth]),
        is_it_q(choosing, confirming),
        f"Seeds from {CHOOSING} on, which choose. {COLUMNS}",
        markdown(variations_table(choosing)),
    ]
    text += ["![Error, d_opt and AUROC of each variation](figures/learnt_depth.png)"] if drawn else []
    if len(confirming):
        text += [f"Seeds below {CHOOSING}, which confirm:", markdown(variations_table(confirming))]
        anew = retrained_table(confirming, ddn)
        text += [ANEW, markdown(anew)] if len(anew) else []
    judged = rows[rows["fit"] == FITS[0]]  # a row a run
    return [*(t for t in text if t), "The rule, and the runs that it judges:", markdown(rules_table(judged, [REPAIR]))]


def in_words(choosing: pd.DataFrame, confirming: pd.DataFrame) -> str:
    """What is taken, whether it is confirmed, and whether it hurts."""
    best = taken(choosing)
    if best is None:
        return "**No variation was run yet.**"
    said = f"**Does changing one thing help?** Taken: {best[0]}, and q {best[1]} after training."
    interval = gap(confirming, *best, "test_error")
    if interval.n < FEWEST:
        return f"{said} It is not confirmed yet: that needs {FEWEST} repeats."
    words = {"reproduced": "confirmed", "not reproduced": "not confirmed"}
    said += f" Test error, minus the paper's: {difference_said(interval, 100, 'points')}, "
    said += f"{words.get(REPAIR.judge(interval, 0.0), 'undecided')} (against one training of it, see below)"
    said += f"; on the seeds that chose it {difference_said(gap(choosing, *best, 'test_error'), 100, 'points')}."
    if best[1] != FITS[0] and best[0] != AS_IS:
        alone = gap(confirming, best[0], FITS[0], "test_error")
        said += f" These are two changes; the first alone, q as learnt: {difference_said(alone, 100, 'points')}."
    for column, name in OFF.items():
        other = gap(confirming, *best, column)
        unit = "nats" if column.endswith("log_likelihood") else ""
        hurts = "it hurts" if other.high < 0 else "it helps" if other.low > 0 else "no difference seen"
        said += f" {name[0].upper()}{name[1:]}: {difference_said(other, unit=unit)}, {hurts}."
    return said


def taken(choosing: pd.DataFrame) -> tuple[str, str] | None:
    """The variation and its fit by the rule `REPAIR`: the lowest mean test error, that of the paper left out.

    Args:
        choosing: as of `with_words`, of the seeds that choose. One of which a run diverged is not taken.
    """
    others = choosing[(choosing["variation"] != AS_IS) | (choosing["fit"] != FITS[0])]
    means = others.groupby(["variation", "fit"], sort=False)["test_error"].agg(lambda errors: errors.mean(skipna=False))
    means = means.dropna()
    return None if means.empty else means.index[int(means.argmin())]


def trained_again(rows: pd.DataFrame, ldn: pd.DataFrame) -> str:
    """The same difference from other trainings of the paper's LDN: how much of it is the noise of training."""
    best = taken(rows[rows["seed"] >= CHOOSING])
    if best is None or ldn.empty:
        return ""
    ours = rows[(rows["variation"] == best[0]) & (rows["fit"] == best[1])].set_index("seed")["test_error"]
    again = ldn.set_index("seed")["LDN-95_test_error"]
    all_seeds = gap(rows, *best, "test_error")
    others = interval_of(ours - again)
    other_said, all_said = (
        difference_said(interval, 100, "points")
        + (", no difference seen" if interval.low <= 0 <= interval.high else "")
        for interval in (others, all_seeds)
    )
    return (
        "**Does that depend on one training?** Rounding alone (another processor, another version of the code) changes "
        "which network a seed gives, so we compare with another training of the same network too. Minus the LDN of the "
        f"scan of D, trained at another time, on {others.n} seeds that confirm: {other_said}. "
        f"Minus the paper's LDN trained here, on all {all_seeds.n} seeds, those that choose too, which favour what is "
        f"taken: {all_said}."
    )


def is_it_q(choosing: pd.DataFrame, confirming: pd.DataFrame) -> str:
    """What the paper's LDN has of a q that is as good as it can be for its weights, on each half of the seeds."""
    halves = _refitted(choosing, "choose"), _refitted(confirming, "confirm")
    said = "; ".join(half for half in halves if half)
    return f"**Is it q?** The paper's LDN refitted minus as learnt, {said}." if said else ""


def _refitted(rows: pd.DataFrame, what: str) -> str:
    error = gap(rows, AS_IS, FITS[1], "test_error")
    if not error.n:
        return ""
    depths = [rows[(rows["variation"] == AS_IS) & (rows["fit"] == fit)]["pruned_depth"] for fit in FITS]
    said = [f"test error {difference_said(error, 100, 'points')}"]
    said += [f"{name} {difference_said(gap(rows, AS_IS, FITS[1], column))}" for column, name in OFF.items()]
    cut = f"cut at {depths[1].mean():.1f} instead of {depths[0].mean():.1f}"
    return f"on the {error.n} seeds that {what}: {cut}, {', '.join(said)}"


def gap(rows: pd.DataFrame, variation: str, fit: str, column: str) -> Interval:
    """A column of a variation minus that of the paper's LDN as learnt, paired over repeats."""
    ours, papers = (
        rows[(rows["variation"] == name) & (rows["fit"] == how)].set_index("seed")[column]
        for name, how in ((variation, fit), (AS_IS, FITS[0]))
    )
    return interval_of(ours - papers)


def variations_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a variation and fit, in the order of `with_words`; errors in percent."""
    table = []
    for (variation, fit), part in rows.groupby(["variation", "fit"], sort=False):
        done = part[part["diverged_epoch"].isna()]
        row = {"variation": variation, "q": fit, "n": len(part), "d_opt": spread(done["pruned_depth"])}
        row |= {
            "KL (nats)": number(done["kl_to_exact"].mean(), ".2f"),
            "test error (%)": spread(100 * done["test_error"]),
        }
        paper = variation == AS_IS and fit == FITS[0]
        minus = "-" if paper else difference_said(gap(rows, str(variation), str(fit), "test_error"), 100)
        row |= {"minus the paper's": minus, "log-likelihood (nats)": spread(done["test_log_likelihood"])}
        row |= {"AUROC off the data": spread(done["shift_auroc"])}
        row |= {"log-likelihood there, median": number(done["shift_log_likelihood"].median(), ".3g")}
        table.append(row | {"epochs": number(done["epochs"].mean(), ".0f")})
    return pd.DataFrame(table)


def retrained_table(rows: pd.DataFrame, ddn: pd.DataFrame) -> pd.DataFrame:
    """The paper's LDN against deterministic networks of the same repeats: of the depth that it chose, and the best."""
    table = []
    if ddn.empty:
        return pd.DataFrame()
    column = "DDN_test_error"
    trained = ddn.set_index(["seed", "max_depth"])[column]
    best = ManualSearch(ddn, "error")
    for fit in FITS:
        own = rows[(rows["variation"] == AS_IS) & (rows["fit"] == fit)].set_index("seed")
        ours = own["test_error"]
        found = [trained.get(repeat, np.nan) for repeat in own["pruned_depth"].items()]
        anew = pd.Series(found, index=own.index, dtype=float)
        row = {"q": fit, "LDN-95 (%)": spread(100 * ours)}
        for name, others, gap in (
            ("retrained at d_opt", anew, interval_of(ours - anew)),
            ("the best DDN", best.values(column), best.gap(ours, column)),
        ):
            both = (ours - others).dropna().index
            row |= {f"n, {name}": gap.n, f"{name} (%)": spread(100 * others[both])}
            row |= {f"LDN-95 minus {name}": difference_said(gap, 100, "points")}
        table.append(row)
    return pd.DataFrame(table)
