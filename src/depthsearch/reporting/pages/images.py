"""What there is on images: the runs, one LDN run against manual search, time to predict."""

from collections.abc import Mapping

import pandas as pd

from depthsearch.reporting.intervals import interval_of
from depthsearch.reporting.judging.claims import PAPER_EPOCHS, slopes
from depthsearch.reporting.judging.manual_search import ManualSearch, chosen_on, is_search
from depthsearch.reporting.judging.rules import FEWEST, STEADY_FROM
from depthsearch.reporting.pages.costs import diverged_runs
from depthsearch.reporting.parts import claimed_depth, cohorts, first_cohorts, of_data_sets, timed_runs
from depthsearch.reporting.tables.schema import RUNS, Tables, empty
from depthsearch.reporting.words import difference_said, listed, markdown, span, spread
from depthsearch.studies.images import Images

PAPER_SETS, PAPER_DEPTHS = ("MNIST", "Fashion-MNIST", "SVHN"), 16  # of its image scans


def image_runs(tables: Tables) -> str:
    """Which image runs there are, how they were made and how much less that is than the paper's; a list."""
    lines, seen, devices = [], set(), set()
    for name, cohort in cohorts(tables).items():
        runs, diverged = cohort["runs"], cohort.get("diverged", pd.DataFrame(columns=["data_set"]))
        protocol, epochs = runs["protocol"].iloc[0], runs["epochs_limit"].iloc[0]
        how = "selected on a held-out tenth of the training set" if protocol == "fair" else "selected on the test set"
        for data_set, here in runs.groupby("data_set"):
            reduced = epochs < PAPER_EPOCHS or here["max_depth"].nunique() < PAPER_DEPTHS
            kinds = set(here["kind"])
            steps = {Images(kind=kind, protocol=protocol).training.decay_epoch for kind in kinds}
            late = min((step for step in steps if step is not None), default=0)
            unfinished = (here["best_epoch"] == epochs).sum()
            step = f"learning-rate step after epoch {late}"
            notes = [f"{step} not reached"] if late >= epochs else []
            # In the paper the rate of LDN stays as it is.
            notes += [f"{step}, of LDN too"] if 0 < late < epochs and protocol == "fair" and "LDN" in kinds else []
            notes += [f"last epoch the best in {unfinished} of {len(here)} runs"] if unfinished else []
            lines.append(
                f"- {data_set}, `{name}`: {'reduced, ' if reduced else ''}{epochs} of {PAPER_EPOCHS} epochs, "
                f"{_depths_of_kinds(here)}; epoch {how}"
                f"{''.join(f'; {note}' for note in notes)}; diverged: "
                f"{diverged_runs(diverged[diverged['data_set'] == data_set])}."
            )
            seen.add(data_set)
        devices.update(runs["device"].unique())
    lost = tables["diverged"]
    lost = lost[lost["scan"].str.endswith("_images") & ~lost["data_set"].isin(seen)]
    for data_set, here in lost.groupby("data_set"):
        lines.append(f"- {data_set}: all runs diverged: {diverged_runs(here)}.")
        seen.add(data_set)
    lines += [f"- {name}: not run." for name in PAPER_SETS if name not in seen]
    if devices and all(device.startswith("CPU") for device in devices):
        lines.append("- No run is on a GPU: nothing here says how the code does on one.")
    return "\n".join(lines)


def image_scale(tables: Tables) -> str:
    """How much less than the paper's the runs are of which the first page tells, in a few lines; nothing of none."""
    told: dict[str, list[str]] = {}
    chosen, devices, by_elbo, early = [], set(), [], []
    for data_set, (way, runs) in first_cohorts(tables).items():
        ldn, ddn = (runs[runs["kind"] == kind] for kind in ("LDN", "DDN"))
        few = ldn[ldn["max_depth"].isin([claimed_depth(ldn, ddn), ldn["max_depth"].max()])]
        told.setdefault(f"`{way}`, {_depths_of_kinds(runs)}", []).append(data_set)
        chosen.append(f"{data_set} {_chosen_at_each(few)}")
        devices.update(runs["device"])
        by_elbo += [data_set] if len(_by_elbo(runs)) else []
        before = _that_passed_the_step(runs)["before_the_step"]
        early += [f"{before.sum()} of {len(before)} on {data_set}"] if before.any() else []
    if not told:
        return ""
    said = "; ".join(f"{' and '.join(names)} {what}" for what, names in told.items())
    said = f"Images (the paper: {PAPER_EPOCHS} epochs): {said}. d_opt: {'; '.join(chosen)}. "
    said += "No run on a GPU" if all(device.startswith("CPU") for device in devices) else "Some on a GPU"
    if by_elbo:
        which = f" of {' and '.join(by_elbo)}" if len(by_elbo) < len(chosen) else ""
        said += f". LDN{which} are [to be run again](results/README.md#on-images)"
    said += "; [all runs](results/README.md#what-was-run)."
    if early:
        said += f"\nOf networks {', '.join(early)} kept an epoch before the learning-rate step "
        said += "([how low errors went later](results/README.md#on-images))."
    return said


def _chosen_at_each(ldn: pd.DataFrame) -> str:
    """`8.2 ± 0.5 at D = 10, 14 ± 1 at D = 20`: d_opt of each."""
    return ", ".join(f"{spread(of['pruned_depth'])} at D = {d}" for d, of in ldn.groupby("max_depth"))


def chosen_depths(tables: Tables) -> str:
    """How d_opt grows with D where D is so small that claim 4a does not judge it; a list, nothing of none."""
    lines = []
    for data_set, (way, runs) in first_cohorts(tables).items():
        ldn = runs[(runs["kind"] == "LDN") & (runs["max_depth"] > 0)]
        below = ldn[ldn["max_depth"] <= STEADY_FROM]
        slope, ends = interval_of(slopes(below, "max_depth")), span(below["max_depth"])
        if slope.n > 1:
            grows = f"from D = {ends} by {difference_said(slope)} layers a layer (n = {slope.n})"
            lines.append(f"- {data_set}, `{way}`: {_chosen_at_each(below)}; {grows}.")
    if not lines:
        return ""
    return (
        f"Claim 4a says nothing of D below {STEADY_FROM}, where D itself may be what limits the chosen depth. Up to "
        "there d_opt is:\n\n" + "\n".join(lines) + "\n\n"
    )


def _depths_of_kinds(runs: pd.DataFrame) -> str:
    """`LDN of D = 10 (n = 4), DDN of D = 3 5 10 (n = 4) and D = 1 (n = 1)`: depths by how many repeats they have."""
    said = []
    for kind in ("LDN", "DDN"):
        repeats = runs[runs["kind"] == kind].groupby("max_depth")["seed"].nunique()
        parts = [f"D = {listed(of.index)} (n = {n})" for n, of in sorted(repeats.groupby(repeats), reverse=True)]
        said += [f"{kind} of {' and '.join(parts)}"] if parts else []
    return ", ".join(said)


def protocol_gap(tables: Tables) -> str:
    """How far the error on the points that select rose from an epoch to the next, of settings run in both protocols."""
    keys = ["data_set", "kind", "max_depth", "precision", "epochs_limit"]
    runs = tables["runs"]
    if "protocol" not in runs or "largest_rise" not in runs:
        return ""
    of_settings = runs.groupby([*keys, "protocol"])["largest_rise"]
    rises, repeats = (100 * of_settings.max()).unstack("protocol"), of_settings.count().unstack("protocol")
    if not {"fair", "paper"} <= set(rises):
        return ""
    lines = [
        f"- {key[0]}, {key[1]}, D = {key[2]}: {row['paper']:.2g} points under `paper` "  # type: ignore[index]
        f"(n = {repeats['paper'][key]:.0f}), {row['fair']:.2g} under `fair` (n = {repeats['fair'][key]:.0f})."
        for key, row in rises.dropna().iterrows()
    ]
    return (
        "Running averages of batch norm lag behind the weights under `paper`, as in the original; under `fair` they "
        "are estimated anew\nafter each epoch. The largest rise, from one epoch to the next, of the error on the "
        "points that select the epoch (test points\nunder `paper`, validation points under `fair`), of settings run "
        "in both:\n\n" + "\n".join(lines) + f"\n\n{_rises_of_fair(runs)}"
    )


def _rises_of_fair(runs: pd.DataFrame) -> str:
    """Of all `fair` runs, those in which the error rose most: noise of the weights themselves is left."""
    fair = runs[runs["scan"].str.endswith("_images") & (runs["protocol"] == "fair")]
    fair = fair.sort_values("largest_rise", ascending=False)
    deep = fair[fair["max_depth"] > 0]
    of = [
        f"{100 * row['largest_rise']:.2g} points ({row['data_set']}, {row['kind']}, D = {row['max_depth']})"
        for row in (part.iloc[0] for part in (deep, fair[fair["max_depth"] == 0]) if len(part))
    ]
    return f"Of all {len(fair)} runs under `fair` the largest: {'; without blocks '.join(of)}."


METRIC_COLUMNS = {
    "error (%)": "error",
    "log-likelihood (nats)": "log_likelihood",
    "ECE (%)": "ece",
    "Brier": "brier",
}
ORIGINAL_COLUMNS = {"mean true-class probability": "mean_true_class_probability", "paper ECE": "paper_ece"}


def image_table(tables: Tables, columns: Mapping[str, str] = METRIC_COLUMNS) -> pd.DataFrame:
    """LDN, the `claimed_depth` first, and DDN, the best named, at each depth: test set, mean and deviation."""
    rows = []
    for cohort_name, cohort in cohorts(tables).items():
        for data_set, ldn, ddn in of_data_sets(cohort["runs"]):
            claimed, methods = claimed_depth(ldn, ddn), []
            for depth in sorted(set(ldn["max_depth"]) - {0}, key=lambda d: (d != claimed, d)):
                at = ldn[ldn["max_depth"] == depth]
                methods += [(variant, f"{variant} (D = {depth})", at) for variant in ("LDN-95", "LDN-full")]
            best = ManualSearch(ddn, "log_likelihood") if is_search(ddn) else None
            how = f"best log-likelihood on {chosen_on(ddn)}"
            for d, runs in ddn.groupby("max_depth"):
                chosen = f", {how}" if best is not None and best.depth == d else ""
                methods.append(("DDN", f"DDN (D = {d}){chosen}", runs))
            if best is not None and best.depth is None:
                methods.append(("DDN", f"DDN (D = {best.depths()}), {how}", best.runs()))
            for variant, title, runs in methods:
                row = {"data": data_set, "runs": cohort_name, "method": title, "n": len(runs)}
                row |= {"epoch kept": spread(runs["best_epoch"]), "depth used": spread(runs[f"{variant}_depth"])}
                rows.append(row | test_metrics(runs, variant, columns))
    return pd.DataFrame(rows)


def calibration_of_depths(tables: Tables) -> str:
    """Claim 3 against the DDN of each depth, of the cohorts of the first page; a list, nothing of none."""
    lines = []
    for data_set, (way, runs) in first_cohorts(tables).items():
        ldn, ddn = (runs[runs["kind"] == kind] for kind in ("LDN", "DDN"))
        depth = claimed_depth(ldn, ddn)
        ours = ldn[ldn["max_depth"] == depth].set_index("seed")["LDN-full_test_ece"]
        said = [
            f"D = {d}: {difference_said(interval, 100)} (epoch {spread(of['best_epoch'])})"
            for d, of in ddn.groupby("max_depth")
            if (interval := interval_of(ours - of.set_index("seed")["DDN_test_ece"])).n >= FEWEST
        ]
        kept = spread(ldn[ldn["max_depth"] == depth]["best_epoch"])
        lines += [f"- {data_set}, `{way}`, LDN of D = {depth} (epoch {kept}): {', '.join(said)}."] if said else []
    if not lines:
        return ""
    return (
        "Claim 3 against the DDN of each depth, ECE of LDN-full minus its ECE, points; in brackets the epoch that the "
        "networks are of: where one was trained longer, that alone may be why it is calibrated worse.\n\n"
        + "\n".join(lines)
        + "\n\n"
    )


BY_ELBO = """**The epoch of these LDN was selected by the ELBO** on the points that select, which scores each depth on
its own. The original code scores the prediction, a mean over depths; a DDN was selected so too, since of one depth the
two are one. Since 2026-11-30 LDN is. These were not trained again, and verdicts that rest on them may move. How far
apart the two are on the points that select, the best by the log-likelihood of the prediction sought among the logged
epochs, some of which the tables leave out:"""


def _by_elbo(runs: pd.DataFrame) -> pd.DataFrame:
    """The LDN on images of which the epoch was selected by the ELBO, and could have been another."""
    ldn = runs[(runs["scan"] == "scan_max_depth_images") & (runs["max_depth"] > 0)]
    return ldn[ldn["selected_by"] != "log_likelihood"]


def selected_by_elbo(tables: Tables) -> str:
    """Of which LDN of the first page the epoch was selected by the ELBO, and what the other selection keeps; a list."""
    lines, curves = [], tables.get("curves", empty("curves"))
    logged, others = curves.assign(run=RUNS.keys(curves)), len(_by_elbo(tables["runs"]))
    for data_set, (way, runs) in first_cohorts(tables).items():
        for depth, of in _by_elbo(runs).groupby("max_depth"):
            said = f"- {data_set}, `{way}`, D = {depth} (n = {len(of)}): epoch {spread(of['best_epoch'])} kept"
            here = logged[logged["run"].isin(set(RUNS.keys(of)))]
            if len(here):
                best = here.loc[here.groupby("run")["valid_log_likelihood"].idxmax()]
                errors = [spread(100 * of["valid_error"]), spread(100 * best["valid_error"])]
                said += f", {spread(best['epoch'])} the best; error {errors[0]} % kept, {errors[1]} % the best"
            lines.append(f"{said}.")
            others -= len(of)
    lines += [f"- So were {others} LDN of other ways of training."] if others else []
    return f"{BY_ELBO}\n\n" + "\n".join(lines) + "\n\n" if lines else ""


EARLY = """**Epochs before the learning-rate step.** The epoch kept is that of the best log-likelihood on the points
that select. A network may have it before the step, and be surer than it is right from there on, while its error still
falls. The errors of claims 1 and 2 are of the epochs kept. How many networks kept one before the step, and their error
on the points that select, there and at its lowest in any logged epoch (the least of many, so it flatters; it judges
nothing):"""


def kept_early(tables: Tables) -> str:
    """Of the cohorts of the first page, which kept an epoch before the learning-rate step, and how low the error went.

    A table of all their settings, below a few words; nothing where no network kept so early an epoch, or where the
    errors of the epochs are not known.
    """
    rows, early, curves = [], 0, tables.get("curves", empty("curves"))
    if "valid_error" not in curves:
        return ""
    lowest = curves.groupby(RUNS.keys(curves))["valid_error"].min()
    for data_set, (way, runs) in first_cohorts(tables).items():
        runs = _that_passed_the_step(runs).assign(lowest=lambda of: RUNS.keys(of).map(lowest))
        for (kind, depth), of in runs.dropna(subset="lowest").groupby(["kind", "max_depth"]):
            before = of["before_the_step"].sum()
            early += before
            row = {"data": data_set, "runs": way, "method": f"{kind} (D = {depth})"}
            row |= {"kept before the step": f"{before} of {len(of)}", "epoch kept": spread(of["best_epoch"])}
            row |= {"error there (%)": spread(100 * of["valid_error"])}
            rows.append(row | {"lowest error (%)": spread(100 * of["lowest"])})
    return f"{EARLY}\n\n{markdown(pd.DataFrame(rows))}\n\n" if early else ""


def _that_passed_the_step(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with blocks that may train beyond a learning-rate step, and whether each kept an epoch before it."""
    ways = zip(runs["kind"], runs["protocol"], strict=True)
    step = pd.Series([Images(kind=k, protocol=p).training.decay_epoch for k, p in ways], runs.index, dtype=float)
    passed = (step < runs["epochs_limit"]) & (runs["max_depth"] > 0)  # not where there is no step: that is NaN
    return runs.assign(before_the_step=runs["best_epoch"] <= step)[passed]


PREDICTORS = {"DDN": "DDN of D", "LDN-full": "LDN-full", "LDN-95": "LDN-95", "DDN-95": "DDN of d_opt"}


def prediction_table(tables: Tables) -> pd.DataFrame:
    """Seconds to predict the whole test set, for each data set and D that was timed: LDN and deterministic networks."""
    rows = []
    for cohort_name, cohort in cohorts(tables).items():
        for data_set, ldn, _ in of_data_sets(cohort["runs"]):
            for (depth, device), runs in timed_runs(ldn).groupby(["max_depth", "device"]):
                row = {"data": data_set, "runs": cohort_name, "D": depth, "n": len(runs)}
                row |= {"d_opt": spread(runs["pruned_depth"])}
                row |= {title: spread(runs[f"{name}_predict_seconds"]) for name, title in PREDICTORS.items()}
                rows.append(row | {"saved of DDN of D by pruning (%)": spread(runs["saved"]), "hardware": device})
    return pd.DataFrame(rows)


def test_metrics(runs: pd.DataFrame, variant: str, columns: Mapping[str, str] = METRIC_COLUMNS) -> dict[str, str]:
    """Mean and standard deviation of test metrics, by the names of their columns; of how many, if some have none."""
    said = {}
    for name, metric in columns.items():
        values = runs[f"{variant}_test_{metric}"] * (100 if "%" in name else 1)
        fewer = f" (n = {values.count()})" if 0 < values.count() < len(values) else ""
        said[name] = spread(values) + fewer
    return said
