"""The generated part of the README: what came out, in words; the numbers stand in results/README.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from depthsearch.data.files import written_whole
from depthsearch.reporting.judging.claims import NOT_MEASURED, image_claims, spiral_claims
from depthsearch.reporting.judging.guesses import as_good
from depthsearch.reporting.judging.purposes import good_for
from depthsearch.reporting.judging.rules import CALIBRATION, DIFFICULTY, FEWEST, PRUNING, SEARCH, STEADY
from depthsearch.reporting.pages.images import PAPER_SETS, image_scale
from depthsearch.reporting.tables.baselines import BASELINES
from depthsearch.reporting.tables.comparison import ONE_OF_A_KIND, by_repeat, families, is_reduced, of_family
from depthsearch.reporting.tables.schema import FAIR, Tables
from depthsearch.reporting.words import markdown, most_often, span

CLAIMS = (PRUNING, SEARCH, CALIBRATION, STEADY, DIFFICULTY)
SHOWN = (*ONE_OF_A_KIND, "predictor", "always D", "always D/2")  # on the first page; all stand in results/README.md


def readme_part(scans: Tables, compared: Tables) -> str:
    """The results section of the README.

    Args:
        scans: what is shown of the scans of depth.
        compared: what is shown of the comparison of strategies; empty if there is none.
    """
    text = [
        "**Are the paper's claims reproduced?** Differences are paired over repeats and judged by where the whole 95 % "
        "interval lies ([numbers, margins and rules](results/README.md#claims-of-the-paper)).",
        markdown(claims_in_words(spiral_claims(scans), spiral_claims(scans, FAIR), image_claims(scans))),
        image_scale(scans),
    ]
    found = dict(families(compared["strategies"]))
    if "spirals" in found:
        rows, shift = found["spirals"], of_family(compared["strategies_shift"], "spirals")
        text += [f"{_guesses(found)} The table is of spirals:", markdown(strategies_in_short(rows, shift)), HOW_TO_READ]
    return "\n\n".join(text)


def claims_in_words(spirals: pd.DataFrame, held_out: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """A row a claim, a column a data set, of three tables of claims; on spirals with and without points held out.

    Of several cohorts of image runs the first that says something of a claim and a data set speaks for it.
    """
    table = []
    for rule in CLAIMS:
        row = {"claim": rule.claim, "spirals": _verdict(spirals, rule.claim)}
        row |= {"spirals, points held out": _verdict(held_out, rule.claim)}
        for name in PAPER_SETS:
            # The difference between two data sets stands with the harder one.
            here = {"MNIST": [], "Fashion-MNIST": ["both"]}.get(name, [name]) if rule is DIFFICULTY else [name]
            row[name] = _verdict(images[images["data"].isin(here)], rule.claim) if here else "see Fashion-MNIST"
        table.append(row)
    return pd.DataFrame(table)


def _verdict(claims: pd.DataFrame, claim: str) -> str:
    rows = claims[claims["claim"] == claim]
    if not len(rows):
        return "not run"
    on_test = ""
    if "runs" in rows:
        measured = rows[~rows["verdict"].str.startswith(NOT_MEASURED)]
        way = (measured if len(measured) else rows)["runs"].iloc[0]
        rows = rows[rows["runs"] == way]
        on_test = " of epochs selected on test points" if way.startswith("paper") else ""
    words: dict[str, list[str]] = {}
    for quantity, verdict in zip(rows["quantity"], rows["verdict"], strict=True):
        word, _, why = verdict.partition(": ")
        how = why.partition(",")[0]
        if word.startswith("undecided") and how in ("worse", "grows", "falls"):
            word = f"{word}, but {how}"
        words.setdefault(verdict if word == NOT_MEASURED else word, []).append(_short(quantity))
    n = f"(n = {span(rows['n'])}{on_test})"
    if len(words) == 1:
        return f"{next(iter(words))} {n}"
    return "; ".join(f"{' and '.join(of)}: {word}" for word, of in words.items()) + f" {n}"


def _short(quantity: str) -> str:
    """`error` of "test error, LDN-95 minus ..."; of the two that differ in what is taken off, that.

    How often which depth was the best is left to the other page.
    """
    name, _, rest = quantity.partition(",")
    if name != "ECE":
        return name.removeprefix("negative ").removeprefix("test ")
    other = rest.partition(" minus ")[2].replace("regular network of", "DDN of")
    return f"than {other.partition(' (')[0] if '%' in other else other}"


def _guesses(found: Tables) -> str:
    """Which guesses no strategy is seen to beat, a part a family of data sets, and which have too few repeats.

    A repeat counts if each guess and some strategy have a regret there.
    """
    unbeaten: dict[str, list[str]] = {}
    beaten, undecided = [], []
    for name, rows in found.items():
        regrets = by_repeat(rows, "regret")
        guesses = regrets.reindex(columns=list(BASELINES))
        repeats = guesses.notna().all(axis=1) & regrets.drop(columns=list(BASELINES), errors="ignore").notna().any(
            axis=1
        )
        if repeats.sum() < FEWEST:
            undecided.append(name)
            continue
        where = f"{name} (n = {repeats.sum()}{', reduced' if is_reduced(name) else ''})"
        if as_good(regrets):
            unbeaten.setdefault(" or ".join(as_good(regrets)), []).append(where)
        else:
            beaten.append(where)
    said = ["**Which way of choosing a depth?**"]
    where = "; ".join(f"{guesses}, on {' and '.join(names)}" for guesses, names in unbeaten.items())
    seen = "No search is seen to beat these guesses, each corrected for all strategies (Holm)"
    said += [f"{seen}: {where}."] if unbeaten else []
    said += [f"Every guess is beaten by a strategy on {' and '.join(beaten)}."] if beaten else []
    said += [f"Undecided on {' and '.join(undecided)}: needs {FEWEST} repeats."] if undecided else []
    return " ".join(said)


HOW_TO_READ = """Runs: repeats x angles. Chosen depth: mean; the one chosen most often, in what share of runs (normal
starts at D/2, the others uniform: where the weights of depths stay there, nothing is chosen). Regret: test
log-likelihood lost against the best fixed depth, after training the chosen one from scratch. Passes: blocks run
forward, relative to LDN's; of a guess those of its network. Seen to be worse: the whole 95 % interval of a paired
difference says so, not corrected; for AUROC what is not seen above chance, 0.5, is not listed, nor measured of a guess.
[Learning rates](results/strategies.md#learning-rates) are tuned on spirals, for all but DARTS (paper).
[All twelve strategies, three guesses, images, intervals](results/README.md#ways-of-choosing-a-depth)."""


def strategies_in_short(rows: pd.DataFrame, shift: pd.DataFrame) -> pd.DataFrame:
    """A row a strategy of `SHOWN`: its regret, what it costs, for what it is not seen below the best."""
    purposes, table = good_for(rows, shift), []
    cost = rows.groupby("strategy")["block_evaluations"].mean()
    for name in SHOWN:
        runs = rows[rows["strategy"] == name]
        if runs.empty:
            continue
        row = {"strategy": name, "runs": f"{runs['seed'].nunique()} x {runs['data_set'].nunique()}"}
        row |= {"chosen depth": f"{runs['depth'].mean():.1f}; {most_often(runs['depth'])}"}
        row |= {
            "regret (nats)": f"{runs['regret'].mean():.3f}" if runs["regret"].notna().any() else "-",
            "passes": f"{cost[name] / cost['LDN']:.2g}" if "LDN" in cost else "-",
        }
        table.append(row | {"not seen to be worse than the best for": _listed(purposes, name)})
    return pd.DataFrame(table)


def _listed(purposes: Mapping[str, Sequence[str]], name: str) -> str:
    return ", ".join(purpose for purpose, names in purposes.items() if name in names) or "-"


def insert_into_readme(readme: Path, text: str) -> None:
    """Replaces what stands between the markers of the generated part of a README."""
    start, end = "<!-- generated -->", "<!-- /generated -->"
    before, _, rest = readme.read_text(encoding="utf-8").partition(start)
    _, _, after = rest.partition(end)
    with written_whole(readme) as part:  # what is not generated is nowhere else
        part.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")
