"""From the configuration of a saved run back to its study."""

from typing import Any

from depthsearch.studies.cell_chain import CellChain
from depthsearch.studies.choices import ImageChoice, SpiralChoice
from depthsearch.studies.darts_cells import DartsCell
from depthsearch.studies.genotypes import TrainGenotype
from depthsearch.studies.images import Images
from depthsearch.studies.nasbench201 import NASBench201Cell
from depthsearch.studies.predictor_selection import PredictorSelection
from depthsearch.studies.predictor_table import Prediction
from depthsearch.studies.recurrent_cells import RecurrentCell
from depthsearch.studies.recurrent_genotypes import TrainRecurrent
from depthsearch.studies.spirals import Spirals
from depthsearch.studies.variations import Variation

KINDS: tuple[Any, ...] = (
    Spirals,
    Images,
    SpiralChoice,
    ImageChoice,
    NASBench201Cell,
    CellChain,
    DartsCell,
    RecurrentCell,
    TrainGenotype,
    TrainRecurrent,
    Prediction,
    PredictorSelection,
    Variation,
)


def study_of(configuration: dict) -> Any:
    """The study, one of `KINDS`, of the `configuration` in the `config.json` of a run.

    Raises:
        ValueError: there is no such study.
    """
    for kind in KINDS:
        if kind.name == configuration.get("study"):
            return kind.from_configuration(configuration)
    raise ValueError(f"no study {configuration.get('study')!r}; there are {', '.join(kind.name for kind in KINDS)}")
