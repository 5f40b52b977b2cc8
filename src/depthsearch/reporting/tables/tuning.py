"""Which runs are there to choose a learning rate, and what they are judged by."""

from collections.abc import Mapping, Sequence

import pandas as pd

SCAN, SCAN_TEXT, DEPTH_SCAN = "scan_nasbench201_rates", "scan_recurrent_rates", "scan_strategy_rates"
FIRST_SEED = 100  # from this one on seeds are for tuning alone
END = 0.75  # of the epochs: what comes after counts


def end_loss(history: Sequence[Mapping]) -> float | None:
    """The validation loss that a search ends with, from its rows; None where alpha was not learnt then."""
    late = [row["valid_loss"] for row in history if row["epoch"] > END * history[-1]["epoch"] and "valid_loss" in row]
    return sum(late) / len(late) if late else None


def for_tuning(trainings: pd.DataFrame) -> pd.Series:
    """Which trainings, rows of the table `genotypes`, were to choose a learning rate, and nothing else."""
    return trainings["first_seed"] >= FIRST_SEED
