"""Which runs are there to choose a learning rate, and for nothing else."""

import pandas as pd

from depthsearch.studies.seeds import CHOOSING

CELL_RATES, TEXT_RATES, DEPTH_RATES = "scan_nasbench201_rates", "scan_recurrent_rates", "scan_strategy_rates"


def for_tuning(trainings: pd.DataFrame) -> pd.Series:
    """Which trainings, rows of the table `genotypes`, were to choose a learning rate."""
    return trainings["first_seed"] >= CHOOSING
