"""The text of results/README.md."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from depthsearch.reporting.judging.claims import NOT_MEASURED, image_claims, spiral_claims
from depthsearch.reporting.judging.manual_search import DRAWN, MOST, with_most_repeats
from depthsearch.reporting.judging.rules import (
    ADDED_AT,
    ADDED_FROM,
    DIFFICULTY,
    FEWEST,
    REPEATS,
    SELECTED_AT,
    rules_table,
)
from depthsearch.reporting.pages.costs import costs
from depthsearch.reporting.pages.images import (
    ORIGINAL_COLUMNS,
    calibration_of_depths,
    chosen_depths,
    image_runs,
    image_table,
    kept_early,
    prediction_table,
    protocol_gap,
    selected_by_elbo,
    test_metrics,
)
from depthsearch.reporting.pages.spirals import bends, spirals_part, told
from depthsearch.reporting.parts import cohorts, first_cohorts, ldn_and_ddn, shared_depth
from depthsearch.reporting.tables.schema import FAIR, RUNS, Tables, stacked
from depthsearch.reporting.words import listed, markdown, not_shown
from depthsearch.studies.spirals import Spirals


def results_page(tables: Tables, every: Tables, others: Sequence[str], strategies: str, benchmarks: str) -> str:
    """The text of results/README.md.

    Args:
        tables: what is shown of the scans.
        every: all tables, with the runs that are not shown.
        others: a line for each cohort of runs that is not.
        strategies: a `strategies_part`.
        benchmarks: a `benchmarks_part`.
    """
    return f"""# Results

Generated from the saved runs by `make figures` (tables, this page and the figures); no number here is typed. The exact
versions of all packages behind the committed results are in [requirements.lock](../requirements.lock); benchmarks name
theirs. All figures: [figures](figures). Runs that do not say when they started were made before 2026-11-28, with torch
2.15.0.

Cells: [what DARTS and DrNAS find](cells.md) on NAS-Bench-201, [in the DARTS space](genotypes.md). The
[neural predictor](predictor.md). [What could make a learnt depth err less](learnt_depth.md).

{_claims(tables, every)}

{_images(tables)}

{_runs(tables, others)}

{spirals_part(tables)}

## Ways of choosing a depth

All metrics: [strategies.md](strategies.md).

{strategies}

## Speed and precision

`make bench`: times are medians, each table timed in one run; errors are over seeds.

{benchmarks}

## Appendix: the metrics of the original code

Its "test log-likelihood" is the mean probability of the true class, its ECE that of all class probabilities against the
upper edge of the bin, where a class counts that is the true one and the likeliest. Mean ± standard deviation over
repeats, test set.{counted_otherwise(tables)}

{markdown(_original_metrics(tables))}
"""


def _claims(tables: Tables, every: Tables) -> str:
    judged = [every["runs"], every["diverged"], every["strategies"].assign(scan="scan_strategies")]
    return f"""## Claims of the paper

*LDN*: a learnt depth network of at most D blocks. *LDN-full* predicts with all of them, marginalised over depth;
*LDN-95* is cut at *d_opt*, the first depth whose probability is above 0.95 of the largest; *LDN-E* at the mean depth.
*DDN*: a deterministic network of D blocks; the best by the metric compared, for ECE by log-likelihood, is sought among
the depths that have the most repeats. So that no repeat is judged at a depth that it helped to choose, the repeats are
halved, each half chooses for the other, and what a repeat has is its mean over all ways to halve them, or over
{DRAWN:,} that are drawn where there are more than {MOST:,}; in brackets how often which depth is chosen. The
*reference D* is the paper's 20 on spirals; on images the paper's 50, where it was run, else the largest of those that
both have in the most repeats (of claims 1 and 4b, which need no DDN, that LDN has).

Differences are paired over repeats (repeat r has data seed r and network seed r, the same for every method), mean and
95 % t-interval, against the best DDN that of a jackknife, in which each repeat in turn has no say; n is the number of
repeats. A claim is "reproduced" where the whole interval lies where its rule says,
"not reproduced" where the whole of it lies on the other side of the margin, "undecided" where it is on both sides or n
is less than {FEWEST}, "not measured" where there is no difference to judge. Margins are in the unit of their
difference. Intervals say what other seeds would give, not other test images. No verdict is corrected for how many
there are. The rules, and how many of the runs that they judge, shown or not, had been seen when they were written (runs
of earlier versions, which do not say when they started, count among these; the networks of the pool, which strategies
share, do not):

{markdown(rules_table(stacked(judged)))}

### On spirals

Networks are kept by their training ELBO, which no test point enters. The best DDN is chosen on test points, as in the
paper, but of other repeats than it is judged on, among D = {_sought(tables)}. What could make LDN err less:
[learnt_depth.md](learnt_depth.md).

{markdown(spiral_claims(tables))}

{bends(tables)}{_added(tables)}{_fair(tables, every)}### On images

{image_runs(tables)}

{selected_by_elbo(tables)}{markdown(image_claims(tables))}

{kept_early(tables)}{chosen_depths(tables)}{calibration_of_depths(tables)}{protocol_gap(tables)}"""


def _sought(tables: Tables) -> str:
    """Among which depths the best DDN on spirals is sought."""
    _, ddn = ldn_and_ddn(tables["runs"], "spirals")
    return listed(sorted(with_most_repeats(ddn)["max_depth"].unique())) or "(none run)"


def _fair(tables: Tables, every: Tables) -> str:
    """The claims on spirals of which a quarter of the training points was held out, where they were run."""
    judged = spiral_claims(tables, FAIR)
    if judged.empty:
        return ""
    return f"""The same with a quarter of the training points held out. By these a depth is chosen for the DDN, training
stops, and the epoch is selected, as in the comparison of strategies: the best log-likelihood in the second half of the
epochs.

{markdown(judged)}

{bends(tables, FAIR)}{_added(tables, FAIR)}{_replaced(tables, every)}"""


def _added(tables: Tables, protocol: str = "") -> str:
    """The claims of the repeats alone that were added when the others had been seen; nothing where none was."""
    runs = tables["runs"]
    judged = spiral_claims({"runs": runs[runs["seed"] >= ADDED_FROM]}, protocol)
    judged = judged[(judged["claim"] != DIFFICULTY.claim) & ~judged["verdict"].str.startswith(NOT_MEASURED)]
    if judged.empty:
        return ""
    when = ADDED_AT.replace("T", ", ")
    return f"""When the first {ADDED_FROM} repeats that come with the project had been seen, and left most of these
claims undecided, it was written down that there are to be {REPEATS} ({when} UTC, before any of the others
ran). What the repeats from {ADDED_FROM} on say alone, all later than the rules that judge them:

{markdown(judged)}

"""


def _replaced(tables: Tables, every: Tables) -> str:
    """The same claims of the runs that were selected otherwise, and which others have replaced; nothing of none."""
    runs = every["runs"]
    judged = [f"{scan}{FAIR}" for scan in ("scan_max_depth_spirals", "scan_deterministic_depth_spirals")]
    left = runs[runs["scan"].isin([*judged, f"scan_spiral_complexity{FAIR}"]) & (runs["started"] < SELECTED_AT)]
    left = left[~RUNS.keys(left).isin(set(RUNS.keys(tables["runs"])))]
    before = spiral_claims({"runs": left}, FAIR)
    if before.empty:
        return ""
    depths = left[left["scan"] == judged[1]]["max_depth"].nunique()
    when = SELECTED_AT.replace("T", ", ")
    return f"""Of runs started before {when} UTC the epoch was that of the best objective of all epochs, which kept
networks from their first hundred epochs too, when q was still uniform. The rule was changed when they had been seen,
and all were run again. What those {len(left)} said, DDN of {depths} depths among them:

{markdown(before)}

"""


def _images(tables: Tables) -> str:
    names = dict.fromkeys(name for name, _ in first_cohorts(tables).values())
    links, parts = [], cohorts(tables)
    for name in names:
        links.append(f"![q(d), chosen depth and log-likelihood, {name}](figures/image_depth_dist_exps_{name}.png)")
        links.append(
            f"![Depths, log-likelihood and error against D, {name}](figures/image_depth_dist_exps2_{name}.png)"
        )
        curves = parts[name].get("curves", pd.DataFrame(columns=["max_depth"]))
        if (curves["max_depth"] > 0).any():
            links.append(f"![Error and log-likelihood over the epochs, {name}](figures/image_curves_{name}.png)")
    for data_set, (name, runs) in first_cohorts(tables).items():
        if shared_depth(runs) is not None:
            links.append(f"![Reliability on {data_set}, {name}](figures/calibration_{data_set}_{name}.png)")
    figures = "\n\n".join(links)
    return f"""## Images: one LDN run against manual search

{markdown(image_table(tables))}

{figures}

### Time to predict the test set

Seconds, mean ± standard deviation over repeats. The four networks of a run take turns, each the median of three passes;
other work may have run beside them, so compare within a row. The deterministic networks are of depths D and d_opt.
Where d_opt = D nothing is cut: "saved" is then minus what the heads of all depths cost, and noise. On a quiet machine:
Speed, below.

{markdown(prediction_table(tables))}"""


def _runs(tables: Tables, others: Sequence[str]) -> str:
    paper = Spirals()
    return f"""## What was run

The spiral settings are the paper's: D = {paper.max_depth}, width {paper.width}, {paper.n} points, of which a tenth for
training, arms that turn by {paper.stop_angle:g} degrees, noise of {paper.noise:g}; varied as listed, and with a noise
of 0.15 where the number of points or the angle is varied. A batch has at most {paper.training.batch_size} points: where
more are trained on, an epoch is two steps. A grid shorter than its script's was thinned to the machine at hand. Minutes
are the wall time of training on the hardware named, divided among the repeats trained side by side and summed. Beside
some scans other work ran, so they are upper bounds. A name that ends in `{FAIR}` is of `--protocol fair`.

{markdown(costs(tables))}{not_shown(others)}"""


def benchmarks_part(results: Path) -> str:
    """What `make bench` printed, a section each."""
    printed = {path.stem: path.read_text(encoding="utf-8") for path in sorted((results / "benchmarks").glob("*.txt"))}
    sections = [f"### `benchmarks/{name}.py`\n\n```\n{text.strip()}\n```" for name, text in printed.items()]
    return "\n\n".join(sections) or "(not run)"


COUNTED_AT = "2026-11-30T19:43"  # since when the original's ECE counts as the original does


def counted_otherwise(tables: Tables) -> str:
    """Which of its ECEs are of runs that counted otherwise."""
    older = int((tables["runs"]["started"].fillna("") < COUNTED_AT).sum())
    if not older:
        return ""
    when = COUNTED_AT.replace("T", ", ")
    return f""" In {older} of the {len(tables["runs"])} runs, those of before {when} UTC, the true class counts where it
is not the likeliest, too, which changes this ECE by at most the error divided by the number of classes."""


def _original_metrics(tables: Tables) -> pd.DataFrame:
    rows = []
    for scan, variant in (("scan_max_depth_spirals", "LDN-95"), ("scan_deterministic_depth_spirals", "DDN")):
        for depth, group in told(tables, scan).groupby("max_depth"):
            row = {"data": "spirals", "runs": "paper", "method": f"{variant} (D = {depth})", "n": len(group)}
            rows.append(row | test_metrics(group, variant, ORIGINAL_COLUMNS))
    images = image_table(tables, ORIGINAL_COLUMNS)
    return stacked([pd.DataFrame(rows), images.drop(columns=["epoch kept", "depth used"], errors="ignore")])
