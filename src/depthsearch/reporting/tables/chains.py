"""Tables of chains of cells, whose depth is fixed, learnt, or learnt and then trained anew."""

from pathlib import Path

import pandas as pd

from depthsearch.hardware import in_words
from depthsearch.reporting.tables import searches
from depthsearch.reporting.tables.files import cohort_of, known_runs, nonempty, read_runs
from depthsearch.reporting.tables.schema import CHAINS, Tables, frames
from depthsearch.reporting.tables.shown import shown
from depthsearch.studies.cell_chain import CellChain

ASKED = ("data_set", "kind", "max_depth", "cell", "channels", "n_train", "pixels")
FOUND = ("pruned_depth", "expected_depth", "parameters", "pruned_parameters", "best_epoch", "epochs")


def collect(results: Path) -> Tables:
    """All finished chains of cells as tidy tables, `CHAINS`.

    - `chains`: one row a run: its configuration, chosen depths, parameters, test error and log-likelihood (nats) of
      each variant under `<variant>_test_<metric>`, cost; also `cohort`, the hash of what all chains share, and when the
      run `started`. One that diverged has its epoch and no more.
    - `chains_depths`: one row a run of learnt depth, and depth: `q`, and the test error of that depth.
    """
    rows: dict[str, list[dict]] = {name: [] for name in CHAINS.tables}
    for config, summary in read_runs(results, "chains"):
        asked = config["configuration"]
        key = {"scan": config["scan"], **{name: asked[name] for name in ASKED}}
        key |= {"epochs_limit": asked["training"]["epochs"], "configuration": config["hash"], "seed": config["seed"]}
        making = {"cohort": cohort_of(config, "kind", "max_depth", "cell"), "started": config["started"]}
        row = {"diverged_epoch": summary["diverged_epoch"], **{name: summary.get(name) for name in FOUND}}
        for variant, values in summary.get("variants", {}).items():
            row |= {f"{variant}_{k}": values[k] for k in ("test_error", "test_log_likelihood")}
        cost = {"seconds": summary["seconds"]["training_seconds"], "device": in_words(config["device"])}
        rows["chains"].append(key | making | row | cost)
        if asked["kind"] == "LDN":
            of = ("depth", "q", "test_error")
            rows["chains_depths"] += [key | {k: d[k] for k in of} for d in summary.get("depths", ())]
    return frames(rows)


def read_tables(results: Path) -> Tables:
    """What is `shown` of the searches of a results folder and of the chains of what they found.

    Raises:
        FileNotFoundError: there are no searches.
    """
    return shown(nonempty(known_runs(results, searches.collect), results) | known_runs(results, collect))[0]


def side_by_side(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a cell and repeat: its test errors, depth `fixed` at D, `learnt` and cut, or `retrained`.

    `depth` is the one learnt, `share` the parameters of the cut chain as a share of the whole. A repeat that lacks one
    of the runs, or of which one diverged, is left out.

    Args:
        rows: of `chains`, of one cohort.
    """
    found = []
    rows = rows[rows["diverged_epoch"].isna()]
    errors = rows[rows["kind"] == "DDN"].set_index(["cell", "seed", "max_depth"])["DDN_test_error"]
    for run in rows[rows["kind"] == "LDN"].to_dict("records"):
        cell, seed, deepest, cut = run["cell"], run["seed"], run["max_depth"], int(run["pruned_depth"])
        fixed, anew = (errors.get((cell, seed, depth)) for depth in (deepest, cut))
        if fixed is not None and anew is not None:
            row = {"cell": cell, "seed": seed, "D": deepest, "depth": cut, "fixed": fixed}
            row |= {"learnt": run["LDN-95_test_error"], "retrained": anew}
            found.append(row | {"share": run["pruned_parameters"] / run["parameters"]})
    return pd.DataFrame(found, columns=["cell", "seed", "D", "depth", "fixed", "learnt", "retrained", "share"])


def size(rows: pd.DataFrame) -> str:
    """Whether chains were trained for fewer epochs than by default, in a word."""
    return "reduced size" if rows["epochs_limit"].max() < CellChain().training.epochs else "full size"


def named(rows: pd.DataFrame) -> dict[str, str]:
    """What found or is each cell, by its string; `rows` of the table `cells`."""
    found: dict[str, list[str]] = {}
    for kind, cell in searches.cells_to_stack(rows).items():
        found.setdefault(cell, []).append(kind)
    return {cell: "; ".join(kinds) for cell, kinds in found.items()}
