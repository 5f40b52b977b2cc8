"""Which tables there are, which of them belong together, and which columns even an empty one has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Tables = dict[str, pd.DataFrame]
FAIR = "_fair"  # at the end of the name of a scan of spirals: its networks were selected on points held out
MAKING = ("cohort", "started")  # with which others a run was made, and when
SETTING = ("max_depth", "width", "n", "stop_angle", "noise")


@dataclass(frozen=True)
class Family:
    """Tables about the same runs.

    Attributes:
        key: columns that tell one run from another.
        mains: tables with one row a run.
        details: tables with several.
    """

    key: tuple[str, ...]
    mains: tuple[str, ...]
    details: tuple[str, ...] = ()

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of all of them."""
        return (*self.mains, *self.details)

    def keys(self, table: pd.DataFrame) -> pd.Series:
        """The runs that the rows are of, as text."""
        return as_text(table, self.key)


RUNS = Family(
    ("scan", "data_set", "kind", *SETTING, "protocol", "precision", "epochs_limit", "configuration", "seed"),
    mains=("runs", "diverged"),
    details=("depths", "reliability", "curves"),
)
CHOICES = Family(
    ("data_set", "strategy", "epochs_limit", "configuration", "seed"),
    mains=("strategies",),
    details=("strategies_shift", "strategies_curves"),
)
POOL = Family(
    ("data_set", "max_depth", "width", "points", "epochs_limit", "configuration", "seed"),
    mains=("strategies_pool",),
)
TUNINGS = Family(
    ("data_set", "kind", "max_depth", "setting", "epochs_limit", "configuration", "seed"),
    mains=("strategies_tuning",),
)
CELLS = Family(
    ("scan", "data_set", "kind", "epochs_limit", "configuration", "seed"),
    mains=("cells",),
    details=("cells_history",),
)
CHAINS = Family(
    ("scan", "data_set", "kind", "max_depth", "epochs_limit", "configuration", "seed"),
    mains=("chains",),
    details=("chains_depths",),
)
PREDICTIONS = Family(
    ("data_set", "split", "epochs_limit", "configuration", "seed"),
    mains=("predictor_runs",),
    details=("predictor", "predictor_selection", "predictor_points"),
)
TRAININGS = Family(
    ("scan", "data_set", "epochs_limit", "configuration", "seed"),
    mains=("genotypes",),
    details=("genotypes_history",),
)
VARIATIONS = Family(
    ("scan", "data_set", "max_depth", "epochs_limit", "configuration", "seed", "fit"), mains=("variations",)
)
FAMILIES = (RUNS, CHOICES, POOL, TUNINGS, CELLS, CHAINS, PREDICTIONS, TRAININGS, VARIATIONS)


# What pages and figures look for besides, by table: there where no run has it, so that nobody need ask.
COLUMNS = {
    "runs": ("pruned_depth", "largest_rise", "selected_by", "device", "LDN-95_predict_seconds", "DDN_predict_seconds"),
    "diverged": ("epoch",),
    "depths": ("depth", "q"),
    "strategies": (
        *("max_depth", "preset_width", "depth", "width", "diverged_epoch", "best_depth", "regret", "block_evaluations"),
        *("searched_log_likelihood", "searched_ece", "truncated_log_likelihood", "predictor_tau"),
    ),
    "strategies_shift": ("shift", "log_likelihood", "ece", "auroc"),
    "strategies_curves": ("epoch", "depth_entropy", "expected_depth"),
    "strategies_pool": ("test_log_likelihood", "seconds", "device"),
    "cells": ("space", "architecture", "end_loss", "c10", "c10_mean", "entropy_start", "entropy_end", "skips"),
    "cells_history": ("space", "epoch", "entropy", "c10_mean", "c100_mean", "in16_mean"),
    "chains": ("cell", "diverged_epoch", "pruned_depth", "DDN_test_error", "LDN-95_test_error"),
    "predictor_runs": ("label", "chosen"),
    "predictor": ("predictor", "evaluated", "mse"),
    "predictor_selection": ("search", "scored", "trained", "accuracy"),
    "genotypes": ("name", "architecture", "first_seed", "diverged_epoch"),
    "variations": (
        "pruned_depth",
        "test_error",
        "test_log_likelihood",
        "shift_auroc",
        "shift_log_likelihood",
        "kl_to_exact",
    ),
}


def empty(name: str) -> pd.DataFrame:
    """A table without rows, with the columns that it always has: a file without columns cannot be read back."""
    family = next(family for family in FAMILIES if name in family.tables)
    made = MAKING if name in family.mains else ()
    return pd.DataFrame(columns=list(dict.fromkeys((*family.key, *made, *COLUMNS.get(name, ())))))


def frames(rows: Mapping[str, Sequence[Mapping]]) -> Tables:
    """Rows of tables as tables."""
    return {name: pd.DataFrame(list(found)) if found else empty(name) for name, found in rows.items()}


def with_all_columns(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The table, and of the columns that it always has those that no run of these wrote, without values."""
    return table.reindex(columns=[*table, *(column for column in empty(name) if column not in table)])


def as_text(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """Of each row the values of some columns as one text; of columns that the table lacks, nothing."""
    words = [_words(table[c]) if c in table else [""] * len(table) for c in columns]
    texts = map("|".join, zip(*words, strict=True)) if words else [""] * len(table)
    return pd.Series(list(texts), index=table.index, dtype=object)


def _words(column: pd.Series) -> list[str]:
    which, values = pd.factorize(column, use_na_sentinel=False)
    words = [_plain(value) for value in values]
    return [words[i] for i in which]


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables one below the other; an empty one adds no rows and no doubt about what its columns hold."""
    full = [table for table in tables if len(table)]
    return pd.concat(full, ignore_index=True) if full else tables[0]


def _plain(value: Any) -> str:
    # 720 and 720.0 are one value
    return "" if pd.isna(value) else f"{value:g}" if isinstance(value, int | float | np.number) else str(value)
