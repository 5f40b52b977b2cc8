"""From saved runs to `results/tables`, `results/README.md` and the results section of the README.

    python -m depthsearch.report [results folder]

Every number is computed here from the tables; nothing is typed.
"""

import argparse
import contextlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from depthsearch.data import spiral_split
from depthsearch.evaluation import predict
from depthsearch.figures import of_scan
from depthsearch.objectives import log_predictive
from depthsearch.pruning import prune, pruned_depth
from depthsearch.runs import load_weights, read_tables, run_folders, write_tables
from depthsearch.scan import RESULTS
from depthsearch.settings import Spirals

EXTENT, PIXELS = 5.5, 110  # of the predictive map
MAP_SETTING, MAP_SEED = Spirals(), 0
ERROR_MARGIN, LIKELIHOOD_MARGIN, SLOPE_MARGIN = 0.005, 0.02, 0.1  # what counts as "costs nothing" and "stays put"


NLL = "negative test log-likelihood"


# The predictive map.


def draw_maps(results: Path) -> dict[str, np.ndarray]:
    """p(arm 1) on a grid, per depth and pruned, of repeat 0 of the paper's preset; from its weights, or as stored.

    Returns:
        `per_depth` (D + 1, pixels, pixels), `predictive` (pixels, pixels), `q` (D + 1,), `x_train`, `y_train` and
        `extent`.

    Raises:
        FileNotFoundError: neither the run nor the stored map exists.
    """
    name = MAP_SETTING.folder(MAP_SETTING.training).rpartition("_epochs")[0]
    pattern = f"scan_max_depth_spirals/spirals/{name}_epochs*/version_{MAP_SEED}/weights.pt"
    folders = sorted((w.parent for w in (results / "runs").glob(pattern)), key=_epochs_limit)
    stored = results / "tables" / "spiral_maps.npz"
    if not folders:
        if not stored.exists():
            raise FileNotFoundError(f"no run of {MAP_SETTING} in {results / 'runs'}, and no {stored}")
        with np.load(stored, allow_pickle=False) as file:
            return dict(file)
    network, depth = MAP_SETTING.network(), MAP_SETTING.posterior()
    load_weights(folders[-1], network, depth)
    axis = torch.linspace(-EXTENT, EXTENT, PIXELS)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    logits = predict(network, depth, grid)
    q = depth().probs.detach()
    small, small_depth = prune(network, depth, pruned_depth(q))
    predictive = log_predictive(predict(small, small_depth, grid), small_depth).detach()
    split = spiral_split(MAP_SETTING.n, MAP_SETTING.stop_angle, MAP_SETTING.noise, MAP_SEED)
    shape = (-1, PIXELS, PIXELS)
    return {
        "per_depth": logits.softmax(-1)[..., 1].reshape(shape).numpy().astype(np.float16),
        "predictive": predictive.exp()[..., 1].reshape(shape)[0].numpy().astype(np.float16),
        "q": q.numpy(),
        "x_train": split.x_train.numpy(),
        "y_train": split.y_train.numpy(),
        "extent": np.array(EXTENT),
    }


def _epochs_limit(folder: Path) -> int:
    return int(folder.parent.name.rpartition("epochs")[2])


# Claims.


def paired(differences: pd.Series) -> tuple[float, float, float, int]:
    """Mean, 95 % t-interval and n of paired differences, one a repeat."""
    d = differences.dropna().to_numpy()
    if not len(d):
        return np.nan, np.nan, np.nan, 0
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d)) if len(d) > 1 else np.nan
    return d.mean(), d.mean() - half, d.mean() + half, len(d)


def no_worse(interval: tuple[float, float, float, int], margin: float) -> str:
    """Verdict on "this difference costs nothing", differences being costs (positive is worse)."""
    _, low, high, _ = interval
    if high <= margin:
        return "reproduced"
    if low > margin:
        return "not reproduced"
    return "undecided: worse, by less or more than the margin" if low > 0 else "undecided"


def claims(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The paper's four claims on spirals: quantity, paired difference over repeats, 95 % interval, n, verdict."""
    ldn = of_scan(tables["runs"], "scan_max_depth_spirals")
    ddn = of_scan(tables["runs"], "scan_deterministic_depth_spirals")
    angle = of_scan(tables["runs"], "scan_spiral_complexity")
    rows: list[dict] = []

    def add(
        claim: str, quantity: str, interval, margin: float | None, verdict: str | None = None, unit: str = ""
    ) -> None:
        scale = 100 if unit == "points" else 1
        mean, low, high = (scale * v for v in interval[:3])
        if interval[3] < 2:
            verdict = "undecided: needs more runs"
        rows.append(
            {
                "claim": claim,
                "quantity": quantity,
                "difference": f"{mean:+.3g} [{low:+.3g}, {high:+.3g}] {unit}".strip(),
                "n": interval[3],
                "verdict": verdict or no_worse(interval, margin or 0.0),
            }
        )

    def cost(table: pd.DataFrame, a: str, b: str) -> pd.Series:
        """Per repeat that was run at every setting, the mean over settings of a - b."""
        groups = (table[a] - table[b]).groupby(table["seed"])
        return groups.mean()[groups.size() == groups.size().max()]

    if len(ldn):
        claim = "1. Pruning to d_opt costs nothing"
        deep = f"mean over D = {ldn['max_depth'].min()}..{ldn['max_depth'].max()}"
        error = cost(ldn, "LDN-95_test_error", "LDN-full_test_error")
        add(claim, f"test error, LDN-95 minus LDN-full, {deep}", paired(error), ERROR_MARGIN, unit="points")
        nll = cost(ldn, "LDN-full_test_log_likelihood", "LDN-95_test_log_likelihood")
        add(claim, f"{NLL}, LDN-95 minus LDN-full, {deep}", paired(nll), LIKELIHOOD_MARGIN, unit="nats")
    if len(ldn) and len(ddn):
        claim = "2. One LDN run matches the best depth of manual search"
        preset = ldn[ldn["max_depth"] == 20].set_index("seed")
        for metric, margin, unit, sign in (
            ("test_error", ERROR_MARGIN, "points", 1),
            ("test_log_likelihood", LIKELIHOOD_MARGIN, "nats", -1),
        ):
            means = sign * ddn.groupby("max_depth")[f"DDN_{metric}"].mean()
            best = ddn[ddn["max_depth"] == means.idxmin()].set_index("seed")
            name = "test error" if sign == 1 else NLL
            add(
                claim,
                f"{name}, LDN-95 (D = 20) minus the DDN best on the test set itself (D = {means.idxmin()})",
                paired(sign * (preset[f"LDN-95_{metric}"] - best[f"DDN_{metric}"])),
                margin,
                unit=unit,
            )
        claim = "3. Marginalising over depth is better calibrated than a regular network"
        deep = ddn[ddn["max_depth"] == 20].set_index("seed")
        same = {"regular network of D = 20": deep, "best DDN": best}
        for name, table in same.items():
            interval = paired(preset["LDN-full_test_ece"] - table["DDN_test_ece"])
            add(claim, f"ECE, LDN-full (D = 20) minus {name}", interval, None, _smaller(interval), unit="points")
    if len(ldn):
        claim = "4. The chosen depth stays put as D grows, and follows the difficulty"
        interval = paired(_slopes(ldn[ldn["max_depth"] >= 20], "max_depth"))
        add(claim, "slope of d_opt against D, D >= 20 (layers a layer)", interval, SLOPE_MARGIN)
    if len(angle):
        interval = paired(360 * _slopes(angle, "stop_angle"))
        verdict = "reproduced" if interval[1] > 0 else "not reproduced"
        add(claim, "slope of d_opt against the angle (layers a turn of 360 degrees)", interval, None, verdict)
    return pd.DataFrame(rows)


def _smaller(interval: tuple[float, float, float, int]) -> str:
    if interval[2] < 0:
        return "reproduced"
    return "not reproduced" if interval[1] > 0 else "not reproduced: no difference seen"


def _slopes(runs: pd.DataFrame, x: str) -> pd.Series:
    """Per repeat, the least-squares slope of d_opt against x."""
    return pd.Series({s: np.polyfit(t[x], t["pruned_depth"], 1)[0] for s, t in runs.groupby("seed") if len(t) > 1})


# Cost.


def costs(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What each scan is made of and what it took."""
    rows = []
    for scan in tables["runs"]["scan"].unique():
        runs = of_scan(tables["runs"], scan)
        keys = ("data_set", "protocol", "precision", "max_depth", "width", "n", "stop_angle")
        settings = runs.groupby([key for key in keys if key in runs], dropna=False)["seed"].nunique()
        rows.append(
            {
                "scan": scan,
                "settings": len(settings),
                "repeats": f"{settings.min()}"
                if settings.min() == settings.max()
                else f"{settings.min()} to {settings.max()}",
                "epochs (mean, limit)": f"{runs['epochs'].mean():.0f}, {runs['epochs_limit'].max()}",
                "swept": _swept(runs),
                "minutes of training": f"{runs['training_seconds'].sum() / 60:.1f}",
                "hardware": ", ".join(runs["device"].unique()),
            }
        )
    return pd.DataFrame(rows)


def _swept(runs: pd.DataFrame) -> str:
    for column in ("max_depth", "width", "n", "stop_angle"):
        values = sorted(runs[column].dropna().unique()) if column in runs else []
        if len(values) > 1:
            return f"{column} = {' '.join(f'{v:g}' for v in values)}"
    return ""


def markdown(table: pd.DataFrame) -> str:
    """A pipe table."""
    if table.empty:
        return "(no runs)"
    rows = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def results_page(tables: dict[str, pd.DataFrame], benchmark: str = "(not run)") -> str:
    """The text of results/README.md; `benchmark` is what `make bench` printed."""
    commands = "`make figures` (tables, this page and the figures)"
    return f"""# Results

Generated from the saved runs by {commands}; no number here is typed.

## Claims of the paper, on spirals

Differences are paired over repeats (repeat r has data seed r and network seed r, the same for every method), mean and
95 % t-interval; n is the number of repeats. "Costs nothing" and "matches" mean: the whole interval lies below
{100 * ERROR_MARGIN:g} points of error or {LIKELIHOOD_MARGIN:g} nats, "stays put" below {SLOPE_MARGIN:g} layers a layer;
the verdict is "not reproduced" where the whole interval lies above, and "undecided" where it straddles. Networks are
kept by their training ELBO, which no test point enters; the best DDN of claim 2 is chosen on the test set itself, as in
the paper, which favours the DDN.

{markdown(claims(tables))}

## What was run

The spiral settings are the paper's ({MAP_SETTING},
varied as listed). A grid shorter than its script's was thinned to the machine at hand. Minutes are the wall time of
training on the hardware named, divided among the repeats trained side by side and summed. Beside some scans other work
ran, so they are upper bounds.

{markdown(costs(tables))}

## LDN at each maximum depth

Mean ± standard deviation over repeats, test set.

{markdown(_by_depth(tables, "scan_max_depth_spirals", "LDN-95"))}

## DDN at each depth

{markdown(_by_depth(tables, "scan_deterministic_depth_spirals", "DDN"))}

## Speed

`make bench`: medians, each table timed in one run; first the spirals, then images.

```
{benchmark.strip()}
```
"""


def _by_depth(tables: dict[str, pd.DataFrame], scan: str, variant: str) -> pd.DataFrame:
    runs = of_scan(tables["runs"], scan)
    columns = {"n": None, "chosen depth": "pruned_depth"} if variant != "DDN" else {"n": None}
    columns |= {
        "error (%)": "error",
        "log-likelihood (nats)": "log_likelihood",
        "ECE (%)": "ece",
        "Brier": "brier",
        "mean true-class probability": "mean_true_class_probability",
        "paper ECE": "paper_ece",
    }
    rows = []
    for depth, group in runs.groupby("max_depth"):
        row = {"D": depth}
        for title, metric in columns.items():
            if metric is None:
                row[title] = len(group)
                continue
            values = group["pruned_depth"] if metric == "pruned_depth" else group[f"{variant}_test_{metric}"]
            values = values * (100 if "%" in title else 1)
            row[title] = f"{values.mean():.3g} ± {values.std():.2g}"
        rows.append(row)
    return pd.DataFrame(rows)


def insert_into_readme(readme: Path, text: str) -> None:
    """Replaces what stands between the markers of the generated part of a README."""
    start, end = "<!-- generated -->", "<!-- /generated -->"
    before, _, rest = readme.read_text().partition(start)
    _, _, after = rest.partition(end)
    readme.write_text(f"{before}{start}\n{text}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m depthsearch.report", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS)
    results = parser.parse_args().results
    try:
        tables = read_tables(results)
    except FileNotFoundError as problem:
        print(f"{parser.prog}: {problem}; run a scan first", file=sys.stderr)
        raise SystemExit(2) from None
    if next(run_folders(results), None) is not None:
        for path in write_tables(results):
            print(path)
    with contextlib.suppress(FileNotFoundError):  # no spirals of the preset
        np.savez_compressed(results / "tables" / "spiral_maps.npz", allow_pickle=False, **draw_maps(results))
    benchmarks = [path.read_text().strip() for path in sorted((results / "benchmarks").glob("*.txt"), reverse=True)]
    (results / "README.md").write_text(results_page(tables, "\n\n".join(benchmarks) or "(not run)"))
    if results.resolve() == RESULTS.resolve():
        insert_into_readme(RESULTS.parent / "README.md", markdown(claims(tables)) + "\n\n" + markdown(costs(tables)))


if __name__ == "__main__":
    main()
