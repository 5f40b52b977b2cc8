"""The part of results/cells.md about depth and cell together."""

import numpy as np
import pandas as pd

from depthsearch.reporting.intervals import interval_of
from depthsearch.reporting.judging.rules import COUNTING_CELLS, ERROR_MARGIN, MARGIN_SHARE, rules_table
from depthsearch.reporting.tables.chains import named, side_by_side, size
from depthsearch.reporting.tables.schema import Tables
from depthsearch.reporting.words import difference_said, images_said, markdown, span, spread

INTRO = """The cells of NAS-Bench-201 keep the shape of what they see, so a chain of x + cell(x) behind one stem is a
residual network whose depth can be learnt by the closed-form ELBO and cut. The cell of a strategy is that of the search
that ended with the least validation loss. *Fixed*: the chain of depth D. *Learnt*: the chain of at most D, cut at d_opt
(LDN-95). *Retrained*: a chain of depth d_opt, trained from scratch. Test error in percent, mean ± standard deviation
over repeats. A chain of cells without convolutions keeps all parameters, those of its stem and head. Differences are
over cells, each a mean of its repeats, which share their seeds; the cells are those of the strategies and of
yardsticks, not a random draw."""
FIGURE = "![Chains of cells: errors, and what is believed of depth](figures/cells_depth.png)"


def chains_part(tables: Tables) -> list[str]:
    """Its paragraphs; none where no chain was trained.

    Args:
        tables: what is shown of the chains, and of the searches.
    """
    runs = side_by_side(tables["chains"])
    if runs.empty:
        return []
    names = named(tables["cells"])
    return [
        "## Depth and cell together",
        INTRO,
        _sizes(tables["chains"]),
        markdown(chains_table(runs, names)),
        f"{_in_words(runs)} {_entropy(tables['chains_depths'], runs)}",
        markdown(rules_table(tables["chains"], [COUNTING_CELLS])),
        FIGURE,
    ]


IN_WORDS = {
    "reproduced": "no cost above the margin",
    "reproduced: worse, within the margin": "a cost, within the margin",
    "not reproduced": "a cost above the margin",
}


def chains_table(runs: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """A row a cell, in the order of the error of fixed depth."""
    order = runs.groupby("cell")["fixed"].mean().sort_values().index
    table = []
    for cell in order:
        part = runs[runs["cell"] == cell]
        row = {"cell of": names.get(cell, f"`{cell}`"), "n": len(part)}
        row |= {"d_opt": f"{spread(part['depth'], '.1f', '.1f')} of {span(part['D'])}"}
        row |= {"parameters kept": f"{100 * part['share'].mean():.0f} %"}
        table.append(row | {name: _percent(part[name]) for name in ("fixed", "learnt", "retrained")})
    return pd.DataFrame(table)


def _percent(errors: pd.Series) -> str:
    return spread(100 * errors, ".1f", ".1f")


def _in_words(runs: pd.DataFrame) -> str:
    means = runs.groupby("cell")[["fixed", "learnt", "retrained"]].mean()
    margin = min(ERROR_MARGIN, MARGIN_SHARE * float(means["fixed"].mean()))
    said = []
    for name in ("learnt", "retrained"):
        interval = interval_of(means[name] - means["fixed"])
        verdict = IN_WORDS.get(word := COUNTING_CELLS.judge(interval, margin), word)
        points = difference_said(interval, 100, "points", "+.2f")
        said.append(f"{name} − fixed {points} over {interval.n} cells: {verdict}")
    return f"**Does learning the depth cost anything?** {'; '.join(said)}. Margin: {100 * margin:g} points."


def _entropy(depths: pd.DataFrame, runs: pd.DataFrame) -> str:
    depths = depths.merge(runs[["cell", "seed"]])  # of the runs that the table tells of
    of_a_run = depths.groupby(["configuration", "seed"])["q"]
    entropy = of_a_run.agg(lambda q: -(q * np.log(q.clip(lower=1e-300))).sum())
    flat = np.log(of_a_run.size().max())
    return f"Entropy of q(d) in the end: {spread(entropy)} nats; where all depths are alike it is {flat:.3g}."


def _sizes(rows: pd.DataFrame) -> str:
    said = {name: span(rows[name].dropna().astype(int)) for name in ("channels", "epochs_limit")}
    where = f"{size(rows).capitalize()}, on {', '.join(rows['data_set'].unique())}: C = {said['channels']}"
    return (
        f"{where}, at most {said['epochs_limit']} epochs, {images_said(rows)}, a tenth of which "
        f"selects the epoch; {rows['seconds'].sum() / 60:.0f} minutes of training in all, beside other work; "
        f"{', '.join(rows['device'].unique())}."
    )
