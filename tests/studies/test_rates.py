"""The learning rate of each way of choosing a depth: what it is of, how it was chosen, that budgets were equal."""

import dataclasses
import json
import math

import pandas as pd
import pytest
from conftest import scan_script

from depthsearch.reporting.judging.tuning import TUNING_BELOW, TUNING_DEPTH, tuned
from depthsearch.reporting.pages.strategies import tuning_part
from depthsearch.reporting.tables import comparison, rates
from depthsearch.reporting.tables.files import known_runs
from depthsearch.reporting.tables.rate_scans import DEPTH_RATES
from depthsearch.running.folders import RESULTS, run_folders
from depthsearch.strategies import METHODS
from depthsearch.strategies.mixing import Mixing
from depthsearch.studies.choices import ImageChoice, SpiralChoice, every_way
from depthsearch.studies.seeds import CHOOSING


@pytest.mark.parametrize("kind", [*METHODS, "DDN"])
def test_a_rate_is_that_of_alpha_or_of_the_network_and_comes_back(kind):
    plain, study = SpiralChoice(kind=kind, max_depth=3), SpiralChoice(kind=kind, max_depth=3, rate=0.07)
    mixes = isinstance(METHODS.get(kind), Mixing)
    assert study.training.learning_rate == (plain.training.learning_rate if mixes else 0.07)
    assert getattr(study.method, "learning_rate", None) == (0.07 if mixes else None)
    assert dataclasses.replace(study.training, learning_rate=plain.training.learning_rate) == plain.training
    assert SpiralChoice.from_configuration(json.loads(json.dumps(study.configuration()))) == dataclasses.replace(
        study, epochs=study.training.epochs
    )
    assert "rate" not in plain.configuration()


def test_a_rate_of_nothing_is_refused():
    assert "learning rate is above 0" in (SpiralChoice(rate=0.0).problem() or "")


def _rate(study):
    """The one that is tuned."""
    return study.method.learning_rate if isinstance(study.method, Mixing) else study.training.learning_rate


def test_what_is_compared_has_what_the_rule_takes_from_the_committed_table():
    known = known_runs(RESULTS, rates.collect)["strategies_tuning"]
    rows = known[known["seed"] < CHOOSING]
    taken = tuned(rows)
    spirals = [study for study in every_way(SpiralChoice(), {}) if study.kind != "DARTS (paper)"]
    assert {study.kind: _rate(study) for study in spirals} == taken
    first = tuned(rows[rows["started"] < TUNING_BELOW[0]])  # of three
    for study in every_way(ImageChoice(), {}):
        if not isinstance(METHODS.get(study.kind), Mixing):
            assert study.rate is None and _rate(study) == 0.1  # the paper's
        elif study.kind != "DARTS (paper)":
            assert study.rate == _rate(study) == first[study.kind]  # said in its configuration
    assert (rows["started"] >= TUNING_DEPTH[0]).all()
    lowest = rows[rows["started"] < TUNING_BELOW[0]].groupby("kind")["setting"].min()
    more = {kind for kind, rate in first.items() if rate == lowest[kind]}
    assert rows.groupby("kind")["setting"].nunique().to_dict() == {kind: 5 if kind in more else 3 for kind in first}
    assert set(rows.groupby(["kind", "max_depth", "data_set", "setting"])["seed"].nunique()) == {4}
    assert not {s.group for s in spirals} & set(rows["data_set"])
    again = known[known["seed"] >= CHOOSING]  # the same grid
    assert set(zip(again["kind"], again["setting"], strict=True)) == set(
        zip(rows["kind"], rows["setting"], strict=True)
    )


@pytest.mark.parametrize("preset", [SpiralChoice(), ImageChoice()])
def test_all_that_is_compared_is_one_cohort(preset):
    configurations = [{"configuration": study.configuration()} for study in every_way(preset, {10: (0, 2)})]
    assert len({comparison.shared_by_strategies(config) for config in configurations}) == 1


@pytest.mark.slow
def test_runs_of_the_tuning_are_in_no_table_of_the_comparison(tmp_path):
    options = ("0", "--quick", "--epochs", 4, "--repeats", 1, "--rates", 0.03, 0.1, "--results", tmp_path)
    out = scan_script(*options, name="strategy_rates")
    assert out.returncode == 0, out.stderr
    tables = comparison.collect(tmp_path)
    assert tables["strategies"].empty and tables["strategies_pool"].empty
    rows = rates.collect(tmp_path)["strategies_tuning"]
    assert len(rows) == len(list(run_folders(tmp_path))) and set(rows["setting"]) == {0.03, 0.1}
    assert set(rows["scan"]) == {DEPTH_RATES} and (rows["end_loss"] > 0).all()


def test_a_rate_at_which_a_run_diverged_is_not_taken():
    made = {"kind": "LDN", "started": "2027", "data_set": "spirals450", "seed": 0}
    rows = pd.DataFrame([made | {"setting": 0.1, "end_loss": 0.4}, made | {"setting": 0.3, "end_loss": 0.1}])
    assert tuned(rows) == {"LDN": 0.3}
    worse = pd.concat([rows, pd.DataFrame([made | {"setting": 0.3, "end_loss": math.inf}])])
    assert tuned(worse) == {"LDN": 0.1}
    compared = pd.DataFrame({"data_set": ["digits", "spirals360"], "started": ["2026-11-28T17:00", "2026-11-29T00:00"]})
    text = "\n".join(tuning_part(worse, compared))
    assert "not run again since: digits. There" in text and "not run again" not in tuning_part(worse, compared[1:])[-1]
    assert "| LDN | 0.1 | 1 | -0.4000 | taken, the edge of what was tried |" in text and "0 of 3 runs are older" in text
    assert "for again" not in text
    both = pd.concat([worse, rows.assign(seed=100, end_loss=[0.2, 0.1])])
    text = "\n".join(tuning_part(both, compared))
    assert "again on repeats 100 to 100, which it does not have, the rule takes other rates for 1 of 1 (LDN 0.3" in text
    edge = "taken, the edge of what was tried"
    assert f"| LDN | 0.3 | 2 | -inf |  | 1 | -0.1000 | {edge} |" in text
    text = "\n".join(tuning_part(pd.concat([worse, rows.assign(seed=100, end_loss=[0.1, 0.2])]), compared))
    alone = "\n".join(tuning_part(rows.assign(seed=100), compared))
    assert "for again" not in alone and "| LDN | 0.3 | 1 | -0.1000 |" in alone
    more = rows.assign(seed=100, kind=["DARTS", "LDN"])
    assert "| DARTS | 0.1 | - | - | - | 1 | -0.4000 |" in "\n".join(tuning_part(pd.concat([rows, more]), compared))
    assert "the rule takes the same rates, over all of these runs the same rates:" in text
