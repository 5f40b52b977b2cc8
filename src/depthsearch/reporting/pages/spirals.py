"""What came out on spirals, in tables: a row a depth, width, amount of data, angle."""

import numpy as np
import pandas as pd

from depthsearch.reporting.intervals import interval_of
from depthsearch.reporting.judging.claims import slopes
from depthsearch.reporting.judging.rules import FEWEST, STEADY_FROM
from depthsearch.reporting.pages.images import test_metrics
from depthsearch.reporting.parts import held_out, of_scan
from depthsearch.reporting.tables.schema import FAIR, Tables
from depthsearch.reporting.words import difference_said, markdown, spread
from depthsearch.studies.spirals import HELD_OUT, Spirals

ALL_TO = 20  # deterministic networks have a row a depth up to here
BEND = 50  # of D, where the slope of d_opt is taken in two parts
ASTRAY_HOW = """A unit that is hardly ever active in training gets a running variance near 0, and batch norm then
multiplies what it does on another point by up to 1 / sqrt(eps) times its scale, block after block: a few networks fail
badly. Read the medians."""
ASTRAY = -5.0  # nats; a network of two classes that knows nothing has log(1/2)
AS_IT_WAS = """ Until 2026-11-30 the second batch was what is left with a quarter held out, too: of 700 points 13, and
networks of then erred many times as often as those of 650 or of 750. A step on few points says little, and so do the
statistics that batch norm takes of them. All of 700 points and more were run again; the rows of before stand in the
tables."""
DEEP = 40  # from here on networks that fail were seen to be many


def spirals_part(tables: Tables) -> str:
    """A row a depth of LDN and DDN, and of the other swept quantities."""
    return f"""## Spirals: LDN at each maximum depth

LDN-95: mean ± standard deviation over repeats, test set.

{_depths(tables, "scan_max_depth_spirals", "LDN-95")}

{_picture(tables, "scan_max_depth_spirals", "spiral_depths", "Chosen depth, log-likelihood, error against D")}

{_pictures_of_depths(tables)}

## Spirals: DDN at each depth

From depth {ALL_TO} on every tenth; the others are in `tables/runs.csv`.

{_depths(tables, "scan_deterministic_depth_spirals", "DDN")}

## Spirals: width, amount of data, angle

LDN-95, D = {Spirals().max_depth}; mean ± standard deviation over repeats, test set. With a quarter held out, training
points include these. A setting that the scan of D has too may be trained here by another version of the code: rounding
alone gives other networks, and other digits.

{_swept(tables)}"""


def bends(tables: Tables, protocol: str = "") -> str:
    """Whether the line of claim 4a is one: its slope on both sides of `BEND`, of repeats at all D, a paragraph."""
    runs = of_scan(tables["runs"], f"scan_max_depth_spirals{protocol}")
    depths = runs.groupby("seed")["max_depth"].transform("nunique")
    runs = runs[depths == runs["max_depth"].nunique()]
    parts = [runs[runs["max_depth"].between(*ends)] for ends in ((STEADY_FROM, BEND), (BEND, np.inf))]
    if any(part["max_depth"].nunique() < 2 for part in parts) or runs["seed"].nunique() < FEWEST:
        return ""
    said = [
        f"from D = {part['max_depth'].min()} to {part['max_depth'].max()} "
        f"{difference_said(interval_of(slopes(part, 'max_depth')))}"
        for part in parts
    ]
    ends = [runs[runs["max_depth"] == depth] for depth in (parts[0]["max_depth"].min(), runs["max_depth"].max())]
    where = " and ".join(f"{spread(end['pruned_depth'])} at D = {end['max_depth'].iloc[0]}" for end in ends)
    return (
        f"The slope of 4a in two parts, cut at D = {BEND}, where the curve of the paper's protocol was seen to bend, "
        f"layers a layer: {', '.join(said)} (n = {runs['seed'].nunique()}). The chosen depth is {where}.\n\n"
    )


def _depths(tables: Tables, scan: str, variant: str) -> str:
    """A row a depth, and the same with points held out where that was run."""
    parts = [_astray(tables, scan), markdown(_by_depth(tables, scan, variant))]
    fair = _by_depth(tables, f"{scan}{FAIR}", variant)
    if len(fair):
        parts += ["With a quarter of the training points held out:", _astray(tables, f"{scan}{FAIR}"), markdown(fair)]
    return "\n\n".join(part for part in parts if part)


def _by_depth(tables: Tables, scan: str, variant: str) -> pd.DataFrame:
    rows, runs = [], told(tables, scan)
    for depth, group in runs.groupby("max_depth"):
        row: dict = {"D": depth, "n": len(group)}
        if variant != "DDN":
            row["chosen depth"] = spread(group["pruned_depth"])
        values = group[f"{variant}_test_log_likelihood"]
        row |= test_metrics(group, variant)
        if (values < ASTRAY).any():  # a mean is that of the one that fails worst
            row["log-likelihood (nats)"] = f"{(values < ASTRAY).sum()} of {len(values)} below {ASTRAY:g}"
        rows.append(row | {"median log-likelihood": f"{values.median():.3g}"})
    return pd.DataFrame(rows)


def told(tables: Tables, scan: str) -> pd.DataFrame:
    """The runs of a scan at depths that a page has rows for."""
    runs = of_scan(tables["runs"], scan)
    few = runs["kind"].ne("DDN") | runs["max_depth"].le(ALL_TO) | runs["max_depth"].mod(10).eq(0)
    return runs[few]


def _astray(tables: Tables, scan: str) -> str:
    """Says of how many DDN batch norm has made something of a test point that it never made of another."""
    runs = of_scan(tables["runs"], scan)
    runs = runs[runs["kind"] == "DDN"]
    if runs.empty:
        return ""
    astray, deep = runs["DDN_test_log_likelihood"] < ASTRAY, runs["max_depth"] >= DEEP
    if not astray.any():
        return f"No network has a test log-likelihood below {ASTRAY:g} nats."
    overflowed = int(np.isinf(runs["DDN_test_log_likelihood"]).sum())
    parts = ((f"{DEEP} or more", astray[deep]), (f"below {DEEP}", astray[~deep]))
    how_many = [f"{of.sum()} of the {len(of)} networks of depth {where}" for where, of in parts if len(of)]
    said = f"{' and '.join(how_many)} have a test log-likelihood below {ASTRAY:g} nats.\n{ASTRAY_HOW}"
    if overflowed:
        said += f" Of {overflowed} the logits of some point overflow: -inf, and in no mean of ECE or Brier score."
    return said


def _swept(tables: Tables) -> str:
    """A table a swept quantity, and its figure."""
    parts = []
    for scan, column, name, figure in (
        ("scan_width_spirals", "width", "width", "spiral_width"),
        ("scan_data_amount", "n", "training points", "spiral_data_amount"),
        ("scan_spiral_complexity", "stop_angle", "angle (degrees)", "spiral_complexity"),
    ):
        rows = []
        for protocol, share in (("", "none"), (FAIR, "a quarter")):
            runs = of_scan(tables["runs"], f"{scan}{protocol}")
            of_training = 10 if column == "n" else 1  # a tenth of the points
            for value, group in runs.groupby(runs[column] / of_training):
                row = {name: f"{value:g}", "held out": share, "n": len(group)}
                row |= {"chosen depth": spread(group["pruned_depth"])}
                rows.append(row | test_metrics(group, "LDN-95"))
        if rows:
            parts += [_batches(tables)] if column == "n" else []
            title = f"Chosen depth, log-likelihood, error against {name}"
            parts += [markdown(pd.DataFrame(rows)), _picture(tables, scan, figure, title)]
    return "\n\n".join(part for part in parts if part) or "(not run)"


def _batches(tables: Tables) -> str:
    """Where an epoch takes a second step, and how many points that has."""
    batch, said = Spirals().training.batch_size, []
    for protocol, share in (("", 1.0), (FAIR, 1 - HELD_OUT)):
        runs = of_scan(tables["runs"], f"scan_data_amount{protocol}")
        trained = (share * (runs["n"] // 10)).astype(float).round().astype(int).drop_duplicates()
        more = trained[trained > batch]
        if len(more):
            how = (
                "half of the points each" if protocol else f"the second of what is left, {(more % batch).min()} or more"
            )
            where = " with a quarter held out" if protocol else ""
            said.append(f"from {more.min() / share:.0f}{where} ({how})")
    if not said:
        return ""
    rest = "" if len(said) < 2 else AS_IT_WAS
    return (
        f"A batch has at most {batch} points. Where more are trained on, an epoch takes two steps: "
        f"{', '.join(said)}.{rest}"
    )


def _pictures_of_depths(tables: Tables) -> str:
    """Figures of the paper's protocol alone: what pruning costs, and calibration at the preset D."""
    runs, drawn = of_scan(tables["runs"], "scan_max_depth_spirals"), []
    if len(runs):
        drawn.append("![What pruning costs, against D](figures/spiral_variants.png)")
    if (runs["max_depth"] == Spirals().max_depth).any():
        drawn.append("![Reliability of DDN and LDN](figures/spiral_calibration.png)")
    return "\n\n".join(drawn)


def _picture(tables: Tables, scan: str, figure: str, title: str) -> str:
    """A figure of the notebooks, where its scan was run; that with points held out too."""
    ways = [protocol for protocol in ("", FAIR) if len(of_scan(tables["runs"], f"{scan}{protocol}"))]
    return "\n\n".join(f"![{title}{held_out(way)}](figures/{figure}{way}.png)" for way in ways)
