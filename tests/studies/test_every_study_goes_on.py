"""Whatever a scan can run: interrupted after any epoch, it ends like one left alone."""

import io
import json
from dataclasses import replace

import pytest
import torch

from depthsearch.learning.single import Recipe
from depthsearch.learning.text import TextTraining
from depthsearch.running.folders import as_plain
from depthsearch.strategies import METHODS
from depthsearch.studies.cell_chain import CellChain
from depthsearch.studies.choices import ImageChoice, SpiralChoice
from depthsearch.studies.darts_cells import DartsCell
from depthsearch.studies.genotypes import PRESETS, TrainGenotype
from depthsearch.studies.images import Images
from depthsearch.studies.nasbench201 import NASBench201Cell
from depthsearch.studies.predictor_selection import PredictorSelection
from depthsearch.studies.predictor_table import Prediction
from depthsearch.studies.random_cells import EQUAL_COST
from depthsearch.studies.recurrent_cells import RecurrentCell
from depthsearch.studies.recurrent_genotypes import LSTM, TrainRecurrent
from depthsearch.studies.saved import KINDS
from depthsearch.studies.spirals import Spirals
from depthsearch.studies.texts import GENERATED
from depthsearch.studies.trained_pools import MADE_UP
from depthsearch.studies.variations import Variation

pytestmark = pytest.mark.usefixtures("no_gpu")

ON_DIGITS = {"data_set": "digits", "n_train": 128, "pixels": None, "channels": 4, "epochs": 4, "batch_size": 32}
ON_DARTS = {**ON_DIGITS, "n_train": 64, "channels": 12, "epochs": 2}
PREDICTED = {"data_set": MADE_UP, "ensemble": 2, "epochs": 2}
SHORT_TEXT = TextTraining(epochs=4, batch_size=10, bptt=10, patience=1, learning_rate=5.0)
SEARCHES = ("DARTS", "DARTS 2nd order", "DrNAS", "DrNAS progressive")
STUDIES = {
    "spirals": Spirals(max_depth=2, epochs=5),
    "spirals, deterministic": Spirals(max_depth=2, epochs=5, kind="DDN", protocol="fair"),
    "variation": Variation(max_depth=2, epochs=5, q_rate=10.0, kl_weight=0.5, prior_ratio=0.7, first_seed=100),
    "images": Images(data_set="digits", max_depth=1, epochs=3, protocol="fair"),
    "images, deterministic": Images(data_set="digits", max_depth=1, epochs=3, protocol="paper", kind="DDN"),
    **{f"choice on spirals, {kind}": SpiralChoice(kind=kind, max_depth=2, epochs=5) for kind in METHODS},
    "choice on images": ImageChoice(kind="DARTS 2nd order", max_depth=1, width=4, epochs=3),
    "chain of cells": CellChain(
        data_set="digits", max_depth=2, channels=2, n_train=200, n_test=100, pixels=None, epochs=3
    ),
    **{f"NAS-Bench-201, {kind}": NASBench201Cell(kind=kind, cells=1, **ON_DIGITS) for kind in (*SEARCHES, EQUAL_COST)},
    **{f"DARTS space, {kind}": DartsCell(kind=kind, cells=3, **ON_DARTS) for kind in SEARCHES[::3]},
    **{
        f"recurrent cells, {kind}": RecurrentCell(
            kind=kind, data_set=GENERATED, width=8, batch_size=20, bptt=10, n_train=1000, epochs=3
        )
        for kind in ("DARTS", "DrNAS")
    },
    "genotype": replace(
        PRESETS["reduced"],
        data_set="digits",
        channels=2,
        layers=3,
        pixels=None,
        train_images=128,
        test_images=64,
        recipe=Recipe(epochs=4, batch_size=32, eval_every=2),
    ),
    **{
        f"recurrent genotype, {cell}": replace(PRESETS[GENERATED], genotype=cell, n_train=1000, recipe=SHORT_TEXT)
        for cell in ("DARTS_V2_RNN", LSTM)
    },
    "predictor, one split for all": Prediction(split="80", **PREDICTED),
    "predictor, nested splits": Prediction(split="nested-80", **PREDICTED),
    "predictor for selection": PredictorSelection(n_train=60, budget=90, **PREDICTED),
}


def test_every_kind_of_study_is_here():
    assert {type(study) for study in STUDIES.values()} == set(KINDS)
    assert {type(study) for study in STUDIES.values()} >= {TrainGenotype, TrainRecurrent}


def ended(learner, study, seeds, data):
    """All that comes out of a learner that has ended, of each repeat: what a run folder holds."""
    found = []
    for seed, learned in zip(seeds, learner.learned(), strict=True):
        summary = study.evaluate(learned, seed, torch.device("cpu"), data)
        state = {f"{part}.{name}": value for part, module in learned.state().items()
                 for name, value in module.state_dict().items()}  # fmt: skip
        found.append((json.dumps(as_plain(summary | {"seconds": 0, "history": learned.history})), state))
    return found


@pytest.mark.parametrize("name", STUDIES)
def test_interrupted_after_any_epoch_it_ends_like_one_left_alone(name, tmp_path):
    study = STUDIES[name]
    assert study.problem(tmp_path) is None
    torch.set_num_threads(study.threads or 1)
    seeds = [0, 1][: study.side_by_side]
    begun = seeds, torch.device("cpu"), tmp_path
    left_alone, kept = study.learner(*begun, []), []
    for epoch in left_alone.epochs():
        content = io.BytesIO()
        torch.save(left_alone.checkpoint(), content)
        kept.append((epoch, content))
    expected = ended(left_alone, study, seeds, tmp_path)
    assert len(kept) >= 2 or name.startswith("predictor, nested")
    for epoch, content in kept:
        content.seek(0)
        torch.manual_seed(epoch)  # nothing may hang on it
        resumed = study.learner(*begun, torch.load(content, weights_only=True))
        assert list(resumed.epochs()) == [later for later, _ in kept if later > epoch]
        for (ours, weights), (theirs, other) in zip(ended(resumed, study, seeds, tmp_path), expected, strict=True):
            assert ours == theirs, f"interrupted after epoch {epoch}"
            assert weights.keys() == other.keys()
            for key, value in weights.items():
                assert torch.equal(value, other[key]), f"{key}, interrupted after epoch {epoch}"
