"""Tables of cells trained from scratch, searched, random and published ones alike, whatever the data."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from depthsearch.cells.genotype import (
    GENOTYPES,
    RANDOM,
    RecurrentGenotype,
    random_cell_genotype,
    random_recurrent_genotype,
)
from depthsearch.hardware import in_words
from depthsearch.reporting.tables import searches
from depthsearch.reporting.tables.files import cohort_of, known_runs, read_runs, thin
from depthsearch.reporting.tables.rate_scans import TEXT_RATES, for_tuning
from depthsearch.reporting.tables.schema import TRAININGS, Tables, frames
from depthsearch.reporting.tables.shown import shown
from depthsearch.studies.darts_cells import DartsCell
from depthsearch.studies.recurrent_cells import RecurrentCell
from depthsearch.studies.recurrent_genotypes import LSTM, TrainRecurrent

SIZES = ("channels", "layers", "pixels", "train_images", "test_images", "width", "n_train", "n_words", "first_seed")
TRAINING = ("batch_size", "bptt", "learning_rate", "precision")
PLAN = ("epoch", "learning_rate", "drop_path")  # of a row of the history: what was not measured
RANDOM_CELLS, PUBLISHED_CELLS, OTHER_CELLS = "random cells", "published cells", "other cells"
PUBLISHED = tuple(name for name, known in GENOTYPES.items() if isinstance(known, RecurrentGenotype))


def collect(results: Path) -> Tables:
    """All finished trainings of genotypes as tidy tables, `TRAININGS`.

    - `genotypes`: one row a run: its `name` (that of a published cell, `random:SEED`, `LSTM`, nothing for another),
      its genotype, sizes, parameters, the metric set on the test points as `test_<metric>` (of images `test_error`, a
      share; of texts `test_perplexity`), on points to validate on as `valid_<metric>`, cost.
    - `genotypes_history`: one row a run and epoch, at most forty a run: what was measured then.

    Both have the `configuration`, its hash; the first also `cohort`, the hash of what all genotypes share, and when the
    run `started`.
    """
    rows: dict[str, list[dict]] = {name: [] for name in TRAININGS.tables}
    for config, summary in read_runs(results, "genotypes"):
        asked = config["configuration"]
        key = {"scan": config["scan"], "data_set": asked["data_set"], "epochs_limit": asked["training"]["epochs"]}
        key |= {"configuration": config["hash"], "seed": config["seed"]}
        making = {"cohort": _cohort(config), "started": config["started"]}
        rows["genotypes"].append(key | making | _row(config, summary))
        for point in thin(summary["history"]):
            measured = {name: value for name, value in point.items() if name not in PLAN}
            rows["genotypes_history"].append(key | {"epoch": point["epoch"]} | measured)
    return frames(rows)


def _cohort(config: Mapping) -> str:
    """Of texts the first seed and the learning rate are no part of it: an LSTM has a learning rate of its own."""
    if config["configuration"]["study"] != TrainRecurrent.name:
        return cohort_of(config, "genotype")
    return cohort_of(config, "genotype", "first_seed", of_training=["learning_rate"])


def _row(config: Mapping, summary: Mapping) -> dict:
    asked = config["configuration"]
    architecture = summary.get("architecture", asked["genotype"])  # a control may draw one for each repeat
    row = {"name": name_of(architecture), "architecture": architecture}
    row |= {name: asked.get(name) for name in SIZES} | {name: asked["training"].get(name) for name in TRAINING}
    row |= {"diverged_epoch": summary["diverged_epoch"], "parameters": summary["parameters"]}
    row |= {f"{part}_{k}": value for part in ("test", "valid") for k, value in summary.get(part, {}).items()}
    return row | {"seconds": summary["seconds"]["training_seconds"], "device": in_words(config["device"])}


def name_of(architecture: str) -> str:
    """What a genotype, as JSON text, is called."""
    return _names().get(architecture, "")


@cache
def _names() -> dict[str, str]:
    kinds = random_cell_genotype, random_recurrent_genotype
    drawn = {draw(seed).to_json(): f"{RANDOM}{seed}" for draw in kinds for seed in range(200)}
    return drawn | {known.to_json(): name for name, known in GENOTYPES.items()} | {LSTM: LSTM}


def searches_of(cells: pd.DataFrame) -> pd.DataFrame:
    """Of the table `cells` the searches whose cells are trained: of the space of DARTS and the recurrent one, but for
    those that learning rates were tuned on."""
    return cells[cells["space"].isin([DartsCell.name, RecurrentCell.name]) & (cells["scan"] != TEXT_RATES)]


def by_origin(runs: pd.DataFrame, searched: pd.DataFrame) -> pd.DataFrame:
    """Trainings with where their cells are from: `kind`, a strategy for one, and `cell`, which of that kind.

    A cell that several searches have found is in several rows: the one training serves each of them. On texts a
    published cell is a kind of its own, as an LSTM is, and its seeds stand where else cells do. Trainings that learning
    rates were tuned on are left out.

    Args:
        runs: of the table `genotypes`.
        searched: as of `searches_of`.
    """
    runs = runs[~for_tuning(runs)]
    found: dict[str, list[tuple[str, str]]] = {}
    for search in searched.to_dict("records"):
        found.setdefault(str(search["architecture"]), []).append((search["kind"], f"seed {search['seed']}"))
    rows = runs.fillna({"name": ""}).to_dict("records")
    origins = [(i, *origin) for i, row in enumerate(rows) for origin in found.get(row["architecture"], [_known(row)])]
    rows = runs.iloc[[i for i, _, _ in origins]].reset_index(drop=True)
    return rows.assign(kind=[kind for _, kind, _ in origins], cell=[cell for _, _, cell in origins])


def _known(row: Mapping) -> tuple[str, str]:
    """Kind and cell of what no search found."""
    name = row["name"]
    if name in (LSTM, *PUBLISHED):
        return name, f"seed {int(row['first_seed'] + row['seed'])}"
    kind = RANDOM_CELLS if name.startswith(RANDOM) else PUBLISHED_CELLS if name in GENOTYPES else OTHER_CELLS
    return kind, name or "unnamed"


def read_tables(results: Path) -> Tables:
    """What is `shown` of the trainings of a results folder and of the searches that found their cells; a table of which
    nothing is there is empty."""
    return shown(known_runs(results, collect) | known_runs(results, searches.collect))[0]
