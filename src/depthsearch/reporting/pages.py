"""From saved runs to `results/tables`, `results/README.md` and the results section of the README.

    python -m depthsearch.reporting [results folder] [--add DIR ...]

Every number is computed here from the tables; nothing is typed.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from depthsearch.data.spirals import spiral_split
from depthsearch.depth.objectives import log_predictive
from depthsearch.depth.pruning import prune, pruned_depth
from depthsearch.measuring.depths import predict
from depthsearch.reporting import comparison, verdict
from depthsearch.reporting.claims import (
    ERROR_MARGIN,
    LIKELIHOOD_MARGIN,
    MARGIN_SHARE,
    SLOPE_MARGIN,
    best_ddn,
    has_validation,
    image_claims,
    spiral_claims,
)
from depthsearch.reporting.joining import join, newest, told
from depthsearch.reporting.parts import cohorts, of_data_sets, of_scan, reference_depth, timed_runs
from depthsearch.reporting.tables import TABLES, all_tables, write_tables
from depthsearch.reporting.words import markdown, span, spread
from depthsearch.running.folders import RESULTS, load_weights, read_run
from depthsearch.studies.images import Images
from depthsearch.studies.spirals import Spirals

EXTENT, PIXELS = 5.5, 110  # of the predictive map
MAP_SETTING, MAP_SEED = Spirals(), 0
PAPER_SETS, PAPER_DEPTHS, PAPER_EPOCHS = ("MNIST", "Fashion-MNIST", "SVHN"), 16, 500  # of its image scans


# The predictive map.


def draw_maps(results: Path) -> dict[str, np.ndarray]:
    """p(arm 1) on a grid, per depth and pruned, of repeat 0 of the paper's preset; from its weights, or as stored.

    Returns:
        `per_depth` (D + 1, pixels, pixels), `predictive` (pixels, pixels), `q` (D + 1,), `x_train`, `y_train` and
        `extent`.

    Raises:
        FileNotFoundError: neither the run nor the stored map exists.
    """
    name = MAP_SETTING.title().rpartition("_epochs")[0]
    pattern = f"scan_max_depth_spirals/spirals/{name}_epochs*/version_{MAP_SEED}/weights.pt"
    folders = sorted((w.parent for w in (results / "runs").glob(pattern) if _is_sound(w.parent)), key=_epochs_limit)
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


def _is_sound(folder: Path) -> bool:
    run = read_run(folder)
    return run is not None and run[1].get("diverged_epoch") is None


def _epochs_limit(folder: Path) -> tuple[int, str]:
    run = read_run(folder)
    assert run is not None, folder
    return run[0]["configuration"]["training"]["epochs"], run[0]["started"]


# Cost.


def costs(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What each scan is made of and what it took."""
    rows = []
    for scan in sorted({*tables["runs"]["scan"], *tables["diverged"]["scan"]}):
        runs, diverged = (of_scan(tables[name], scan) for name in ("runs", "diverged"))
        if runs.empty:
            rows.append({"scan": scan, "diverged": _diverged(diverged)})
            continue
        keys = ("data_set", "protocol", "precision", "max_depth", "width", "n", "stop_angle", "epochs_limit")
        settings = runs.groupby([key for key in keys if key in runs], dropna=False)["seed"].nunique()
        rows.append(
            {
                "scan": scan,
                "settings": len(settings),
                "repeats": span(settings),
                "epochs (mean, limit)": f"{runs['epochs'].mean():.0f}, {span(runs['epochs_limit'])}",
                "swept": _swept(runs),
                "diverged": _diverged(diverged),
                "minutes of training": f"{runs['training_seconds'].sum() / 60:.1f}",
                "hardware": ", ".join(runs["device"].unique()),
            }
        )
    return pd.DataFrame(rows).fillna("")


def _diverged(runs: pd.DataFrame) -> str:
    rows = runs.to_dict("records")
    return "; ".join(f"D = {r['max_depth']}, repeat {r['seed']} at epoch {r['epoch']}" for r in rows) or "none"


def _swept(runs: pd.DataFrame) -> str:
    for column in ("max_depth", "width", "n", "stop_angle"):
        values = sorted(runs[column].dropna().unique()) if column in runs else []
        if len(values) > 1:
            return f"{column} = {' '.join(f'{v:g}' for v in values)}"
    return ""


def results_page(tables: dict[str, pd.DataFrame], benchmark: str = "(not run)", strategies: str = "(not run)") -> str:
    """The text of results/README.md; `benchmark` is a `benchmarks_page`, `strategies` a `verdict.page`."""
    commands = "`make figures` (tables, this page and the figures)"
    return f"""# Results

Generated from the saved runs by {commands}; no number here is typed.

## Claims of the paper

Differences are paired over repeats (repeat r has data seed r and network seed r, the same for every method), mean and
95 % t-interval; n is the number of repeats. "Costs nothing" and "matches" mean: the whole interval lies below the
margin, {100 * ERROR_MARGIN:g} points of error or {LIKELIHOOD_MARGIN:g} nats, or {100 * MARGIN_SHARE:g} % of what it is
compared with where that is less; "stays put", below {SLOPE_MARGIN:g} layers a layer. The verdict is "not reproduced"
where the whole interval lies above, and "undecided" where it straddles, or where fewer than four repeats differ by the
same whole number of layers, which gives an interval of no width.

### On spirals

Networks are kept by their training ELBO, which no test point enters; the best DDN of claim 2 is chosen on the test set
itself, as in the paper, which favours the DDN.

{markdown(spiral_claims(tables))}

### On images

{image_runs(tables)}

{markdown(image_claims(tables))}

{protocol_gap(tables)}

## Images: one LDN run against manual search

{markdown(image_table(tables))}

### Time to predict the test set

Seconds, mean ± standard deviation over repeats. The four networks of a run take turns, each the median of three passes;
other work may have run beside them, so compare within a row. The deterministic networks are of depths D and d_opt.
Where d_opt = D nothing is cut, and what is "saved" is the noise of this timing. On a quiet machine: Speed, below.

{markdown(prediction_table(tables))}

## What was run

The spiral settings are the paper's (`{MAP_SETTING.title()}`,
varied as listed). A grid shorter than its script's was thinned to the machine at hand. Minutes are the wall time of
training on the hardware named, divided among the repeats trained side by side and summed. Beside some scans other work
ran, so they are upper bounds.

{markdown(costs(tables))}

## Spirals: LDN at each maximum depth

Mean ± standard deviation over repeats, test set.

{markdown(_by_depth(tables, "scan_max_depth_spirals", "LDN-95"))}

## Spirals: DDN at each depth

{markdown(_by_depth(tables, "scan_deterministic_depth_spirals", "DDN"))}

## Ways of choosing a depth

All metrics: [strategies.md](strategies.md).

{strategies}

## Speed and precision

`make bench`: times are medians, each table timed in one run; errors are over seeds.

{benchmark}
"""


def benchmarks_page(results: Path) -> str:
    """What `make bench` printed, a section each."""
    sections = [
        f"### `benchmarks/{path.stem}.py`\n\n```\n{path.read_text().strip()}\n```"
        for path in sorted((results / "benchmarks").glob("*.txt"))
    ]
    return "\n\n".join(sections) or "(not run)"


def strategies_page(results: Path) -> str:
    """The verdict on strategies; `results/strategies.md` is written, where there are any."""
    try:
        tables = comparison.read_tables(results)
    except FileNotFoundError:
        return "(not run)"
    (results / "strategies.md").write_text(verdict.details(tables))
    return verdict.page(tables)


def image_runs(tables: dict[str, pd.DataFrame]) -> str:
    """Which image runs there are, how they were made and how much less that is than the paper's; a list."""
    lines, seen, devices = [], set(), set()
    for name, cohort in cohorts(tables).items():
        runs, diverged = cohort["runs"], cohort.get("diverged", pd.DataFrame(columns=["data_set"]))
        protocol, epochs = runs["protocol"].iloc[0], runs["epochs_limit"].iloc[0]
        how = "selected on a held-out tenth of the training set" if protocol == "fair" else "selected on the test set"
        for data_set, here in runs.groupby("data_set"):
            depths = sorted(here["max_depth"].unique())
            reduced = epochs < PAPER_EPOCHS or len(depths) < PAPER_DEPTHS
            kinds = " and ".join(f"{kind} ({group['seed'].nunique()})" for kind, group in here.groupby("kind"))
            steps = {Images(kind=kind, protocol=protocol).training.decay_epoch for kind in here["kind"].unique()}
            late = min((step for step in steps if step is not None), default=0)
            unfinished = (here["best_epoch"] == epochs).sum()
            notes = [f"learning-rate step after epoch {late} not reached"] if late >= epochs else []
            notes += [f"last epoch the best in {unfinished} of {len(here)} runs"] if unfinished else []
            lines.append(
                f"- {data_set}, `{name}`: {'reduced, ' if reduced else ''}{epochs} of {PAPER_EPOCHS} epochs, "
                f"D = {' '.join(map(str, depths))}; repeats of {kinds}; epoch {how}"
                f"{''.join(f'; {note}' for note in notes)}; diverged: "
                f"{_diverged(diverged[diverged['data_set'] == data_set])}."
            )
            seen.add(data_set)
        devices.update(runs["device"].unique())
    lines += [f"- {name}: not run." for name in PAPER_SETS if name not in seen]
    if devices and all(device.startswith("CPU") for device in devices):
        lines.append("- No run is on a GPU: nothing here says how the code does on one.")
    return "\n".join(lines)


def protocol_gap(tables: dict[str, pd.DataFrame]) -> str:
    """How far validation error rose from one epoch to the next, of settings run in both protocols."""
    keys = ["data_set", "kind", "max_depth", "precision", "epochs_limit"]
    curves = tables["curves"]
    if "protocol" not in curves:
        return ""
    rises = curves.groupby([*keys, "protocol", "seed"])["valid_error"].agg(lambda errors: errors.diff().max())
    rises = (100 * rises.groupby([*keys, "protocol"]).max()).unstack("protocol")
    if not {"fair", "paper"} <= set(rises):
        return ""
    lines = [
        f"- {data_set}, {kind}, D = {depth}: {row['paper']:.2g} points under `paper`, {row['fair']:.2g} under `fair`."
        for (data_set, kind, depth, _, _), row in rises.dropna().iterrows()  # type: ignore[misc]
    ]
    return (
        "Running averages of batch norm lag behind the weights under `paper`, as in the original; under `fair` they "
        "are estimated anew\nafter each epoch. The largest rise of validation error from one epoch to the next:\n\n"
        + "\n".join(lines)
    )


def image_table(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """LDN of the deepest network, the DDN of its depth and the best DDN: mean and deviation over repeats, test set."""
    rows = []
    for cohort_name, cohort in cohorts(tables).items():
        for data_set, ldn, ddn in of_data_sets(cohort["runs"]):
            shared = reference_depth(ldn, ddn)
            depth = reference_depth(ldn) if shared is None else shared
            at = ldn[ldn["max_depth"] == depth]
            methods = [(variant, f"{variant} (D = {depth})", at) for variant in ("LDN-95", "LDN-full")]
            if shared is not None:
                best = best_ddn(ddn, "log_likelihood")
                chosen_on = "validation" if has_validation(ddn) else "test"
                methods.append(("DDN", f"DDN (D = {depth})", ddn[ddn["max_depth"] == depth]))
                methods.append(("DDN", f"DDN best on {chosen_on} (D = {best['max_depth'].iloc[0]})", best))
            for variant, title, runs in methods:
                row = {"data": data_set, "runs": cohort_name, "method": title, "n": len(runs)}
                rows.append(row | {"depth used": spread(runs[f"{variant}_depth"])} | _test_metrics(runs, variant))
    return pd.DataFrame(rows)


PREDICTORS = {"DDN": "DDN of D", "LDN-full": "LDN-full", "LDN-95": "LDN-95", "DDN-95": "DDN of d_opt"}


def prediction_table(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Seconds to predict the whole test set, for each data set and D that was timed: LDN and deterministic networks."""
    rows = []
    for cohort_name, cohort in cohorts(tables).items():
        for data_set, ldn, _ in of_data_sets(cohort["runs"]):
            for (depth, device), runs in timed_runs(ldn).groupby(["max_depth", "device"]):
                row = {"data": data_set, "runs": cohort_name, "D": depth, "n": len(runs)}
                row |= {"d_opt": spread(runs["pruned_depth"])}
                row |= {title: spread(runs[f"{name}_predict_seconds"]) for name, title in PREDICTORS.items()}
                rows.append(row | {"saved by pruning (%)": spread(runs["saved"]), "hardware": device})
    return pd.DataFrame(rows)


METRIC_COLUMNS = {
    "error (%)": "error",
    "log-likelihood (nats)": "log_likelihood",
    "ECE (%)": "ece",
    "Brier": "brier",
    "mean true-class probability": "mean_true_class_probability",
    "paper ECE": "paper_ece",
}


def _test_metrics(runs: pd.DataFrame, variant: str) -> dict[str, str]:
    return {
        name: spread(runs[f"{variant}_test_{metric}"] * (100 if "%" in name else 1))
        for name, metric in METRIC_COLUMNS.items()
    }


def _by_depth(tables: dict[str, pd.DataFrame], scan: str, variant: str) -> pd.DataFrame:
    rows = []
    for depth, group in of_scan(tables["runs"], scan).groupby("max_depth"):
        row: dict = {"D": depth, "n": len(group)}
        if variant != "DDN":
            row["chosen depth"] = spread(group["pruned_depth"])
        rows.append(row | _test_metrics(group, variant))
    return pd.DataFrame(rows)


def readme_part(tables: dict[str, pd.DataFrame]) -> str:
    """The results section of the README: images, with the claims of the first cohort, then spirals."""
    headline = dict(list(cohorts(tables).items())[:1])
    images = next(iter(headline.values()), tables)
    return f"""### Images

{image_runs(tables)}

{markdown(image_table(tables))}

{markdown(image_claims(images))}

### Spirals

{markdown(spiral_claims(tables))}

### Cost

{markdown(costs(tables))}"""


def insert_into_readme(readme: Path, text: str) -> None:
    """Replaces what stands between the markers of the generated part of a README."""
    start, end = "<!-- generated -->", "<!-- /generated -->"
    before, _, rest = readme.read_text().partition(start)
    _, _, after = rest.partition(end)
    readme.write_text(f"{before}{start}\n{text}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m depthsearch.reporting", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS)
    parser.add_argument("--add", type=Path, nargs="+", default=[], metavar="DIR", help="results of other machines")
    options = parser.parse_args()
    results = options.results
    try:
        tables = gathered([results, *options.add])
    except FileNotFoundError as problem:
        print(f"{parser.prog}: {problem}; run a scan first", file=sys.stderr)
        raise SystemExit(2) from None
    print(*write_tables(results, tables), sep="\n")
    with contextlib.suppress(FileNotFoundError):  # no spirals of the preset
        np.savez_compressed(results / "tables" / "spiral_maps.npz", allow_pickle=False, **draw_maps(results))
    shown, others = newest({name: tables[name] for name in TABLES if name in tables})
    page = results_page(shown, benchmarks_page(results), strategies_page(results))
    (results / "README.md").write_text(page + (f"\n## Not shown\n\n{told(others)}" if others else ""))
    if results.resolve() == RESULTS.resolve():
        insert_into_readme(RESULTS.parent / "README.md", readme_part(shown))


def gathered(places: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """The tables of the first results folder with the runs of the others in them; conflicts are said.

    Raises:
        FileNotFoundError: one has neither runs nor tables.
    """
    found: dict[str, pd.DataFrame] = {}
    for place in places:
        parts, nothing = {}, None
        for read in (all_tables, comparison.all_tables):
            try:
                parts |= read(place)
            except FileNotFoundError as missing:
                nothing = missing
        if not parts and nothing is not None:
            raise nothing
        absent = {name: table for name, table in parts.items() if name not in found}
        found, conflicts = join(found, parts) if found else (parts, [])
        found |= absent
        print(*conflicts, sep="\n", end="\n" if conflicts else "", file=sys.stderr)
    return comparison.with_retrained(found) if "strategies" in found else found
