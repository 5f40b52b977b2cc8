"""Variations of a learnt depth: what is varied against an oracle, the choice by the rule, the page."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import load, scan_script
from scipy.stats import t

from depthsearch import CategoricalDepth, geometric_prior
from depthsearch.depth.objectives import elbo_of_depths
from depthsearch.learning.method import Selection, Training
from depthsearch.measuring.depths import exact_posterior, predict
from depthsearch.reporting.figures.learnt_depth import variations as figure
from depthsearch.reporting.judging.rules import REPAIR
from depthsearch.reporting.pages.learnt_depth import (
    gap,
    in_words,
    learnt_depth_page,
    retrained_table,
    taken,
    trained_again,
)
from depthsearch.reporting.tables import variations
from depthsearch.reporting.tables.schema import empty
from depthsearch.reporting.tables.variations import AS_IS, PAPER, what_varies, with_words
from depthsearch.running.folders import RESULTS, load_weights
from depthsearch.strategies.bayesian import VariedDepth
from depthsearch.studies.saved import study_of
from depthsearch.studies.seeds import CHOOSING
from depthsearch.studies.spirals import Spirals
from depthsearch.studies.variations import Variation


def gradients(method, log_likelihoods, depth, n):
    ll = log_likelihoods.clone().requires_grad_()
    value = method.objective(ll, depth, n)
    return value.detach(), *torch.autograd.grad(value.sum(), [ll, depth.q_logits])


def test_what_is_varied_is_the_rate_of_q_the_weight_of_the_kl_and_the_prior():
    generator = torch.Generator().manual_seed(0)
    ll = -torch.rand(4, dtype=torch.float64, generator=generator)
    depth = CategoricalDepth(geometric_prior(3), torch.randn(4, dtype=torch.float64, generator=generator)).double()
    value, of_ll, of_q = gradients(VariedDepth(), ll, depth, 50)
    assert value == elbo_of_depths(ll, depth, 50)
    faster = gradients(VariedDepth(q_rate=7.0), ll, depth, 50)
    torch.testing.assert_close(faster, (value, of_ll, 7 * of_q), rtol=1e-12, atol=0)
    q, p = depth().probs, geometric_prior(3).probs
    kl = (q * (q / p).log()).sum()
    torch.testing.assert_close(gradients(VariedDepth(kl_weight=0.0), ll, depth, 50)[0], (q * ll).sum(), rtol=0, atol=0)
    heavier = gradients(VariedDepth(kl_weight=3.0), ll, depth, 50)[0]
    torch.testing.assert_close(heavier, (q * ll).sum() - 3 * kl / 50, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        VariedDepth(prior_ratio=0.5).posterior(2).prior.probs, torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64) / 7
    )


def test_by_default_all_is_as_in_the_paper():
    assert Variation().training == Spirals().training == Training() and Variation().selection == Selection()
    assert Variation().method == VariedDepth() == VariedDepth(q_rate=1.0, kl_weight=1.0, prior_ratio=0.85)
    found = []
    for kind in (Spirals, Variation):
        learner = kind(max_depth=3, width=8, epochs=20).learner([2], torch.device("cpu"), Path())
        assert list(learner.epochs()) == list(range(1, 21))
        found.append(learner.learned()[0])
    paper, varied = found
    assert varied.objective == paper.objective and torch.equal(varied.depth.prior.probs, paper.depth.prior.probs)
    for name, tensor in paper.network.state_dict().items():
        assert torch.equal(varied.network.state_dict()[name], tensor), name
    assert torch.equal(varied.depth.q_logits, paper.depth.q_logits)
    assert not torch.equal(varied.depth().probs, varied.depth.prior.probs)  # it has learnt


def test_a_study_comes_back_from_its_configuration_and_bad_values_are_named():
    study = Variation(q_rate=10.0, first_seed=CHOOSING, max_depth=5)
    again = study_of(json.loads(json.dumps(study.configuration())))
    assert again == dataclasses.replace(study, epochs=study.training.epochs)
    assert Variation(patience=2000).training.epochs == 32000
    for wrong, said in (
        ({"kl_weight": 0.0}, "kl_weight must be above 0"),
        ({"first_seed": -1}, "must not be negative"),
    ):
        assert said in (Variation(**wrong).problem() or "")


@pytest.mark.slow
def test_a_run_is_measured_as_learnt_and_refitted(tmp_path):
    options = ("0", "--quick", "--epochs", 40, "--repeats", 2, "--results", tmp_path)
    out = scan_script(*options, name="learnt_depth")
    assert out.returncode == 0, out.stderr
    rows = variations.collect(tmp_path)["variations"]
    assert len(rows) == 8 and set(rows["seed"]) == {100, 101} and set(rows["q_rate"]) == {1.0, 10.0}
    assert rows["cohort"].nunique() == 1 and rows["diverged_epoch"].isna().all()
    run = next(folder for folder in (tmp_path / "runs").rglob("version_1") if "q10" in folder.parent.name)
    study = study_of(json.loads((run / "config.json").read_text())["configuration"])
    network, depth = study.network(), study.posterior()
    load_weights(run, network, depth)
    split = study.split(101)
    logits = predict(network, depth, split.x_train)
    exact = exact_posterior(logits, split.y_train, depth).exp()
    row = rows[(rows["q_rate"] == 10) & (rows["seed"] == 101)].set_index("fit")
    expected = (exact * torch.arange(6)).sum().item()
    assert row.loc["refitted", "expected_depth"] == pytest.approx(expected, rel=1e-4)
    assert row.loc["refitted", "kl_to_exact"] == 0 < row.loc["as learnt", "kl_to_exact"]
    assert row.loc["as learnt", "expected_depth"] != pytest.approx(expected, rel=1e-4)


def test_a_point_whose_logits_overflowed_is_left_out_of_means():
    points = [
        {"shift": shift, "log_likelihood": -shift, "auroc": auroc, "error": 0.5}
        for shift, auroc in ((0, 0.5), (1, 0.7), (3, None))
    ]
    best = {"LDN-95": {"test_error": 0.1, "test_log_likelihood": -0.2}}
    row = variations._found({"pruned_depth": 1, "expected_depth": 1.0, "variants": best, "shift": points})
    assert (row["shift_auroc"], row["shift_log_likelihood"]) == (0.7, -2.0)
    points[-1]["log_likelihood"] = None  # as a summary has it
    row = variations._found({"pruned_depth": 1, "expected_depth": 1.0, "variants": best, "shift": points})
    assert (row["shift_auroc"], row["shift_log_likelihood"]) == (0.7, -math.inf)


def made(values):
    """Rows of the table from {(q_rate, fit, first seed): test errors}."""
    rows = [
        {
            **PAPER,
            "q_rate": rate,
            "fit": fit,
            "seed": first + i,
            "test_error": error,
            "started": "2027",
            "max_depth": 20,
        }
        for (rate, fit, first), errors in values.items()
        for i, error in enumerate(errors)
    ]
    shared = {
        "scan": "scan_learnt_depth",
        "started": "2027",
        "diverged_epoch": None,
        "pruned_depth": 5,
        "kl_to_exact": 1.0,
        "epochs": 9,
    }
    shared |= {"test_log_likelihood": -0.1, "shift_log_likelihood": -2.0, "seconds": 60.0, "device": "CPU"}
    rng = np.random.default_rng(0)
    return with_words(pd.DataFrame(rows).assign(**shared).assign(shift_auroc=lambda t: rng.random(len(t))))


ERRORS = {
    (1.0, "as learnt", 100): [0.02, 0.03],
    (1.0, "refitted", 100): [0.025, 0.03],
    (10.0, "as learnt", 100): [0.021, 0.02],
    (10.0, "refitted", 100): [0.01, np.nan],
    (1.0, "as learnt", 0): [0.02, 0.03, 0.025, 0.022],
    (10.0, "as learnt", 0): [0.01, 0.012, 0.02, 0.014],
}


def test_the_lowest_mean_error_is_taken_and_confirmed_on_other_seeds():
    rows = made(ERRORS)
    choosing, confirming = rows[rows["seed"] >= CHOOSING], rows[rows["seed"] < CHOOSING]
    assert taken(choosing) == ("learning rate of q x 10", "as learnt")
    differences = np.subtract(ERRORS[10.0, "as learnt", 0], ERRORS[1.0, "as learnt", 0])
    half = t.ppf(0.975, 3) * differences.std(ddof=1) / 2
    expected = (differences.mean(), differences.mean() - half, differences.mean() + half, 4)
    assert gap(confirming, *taken(choosing), "test_error") == pytest.approx(expected)
    said = in_words(choosing, confirming)
    mean, low, high = (100 * value for value in expected[:3])
    confirmed = f"{mean:+.3g} [{low:+.3g}, {high:+.3g}] points, confirmed (against one training of it, see below)"
    assert f"minus the paper's: {confirmed}; on the seeds that chose it -0.45 [" in said
    assert "not confirmed yet" in in_words(choosing, confirming[confirming["seed"] < 3])
    worse = confirming.assign(test_error=confirming["test_error"] * np.where(confirming["q_rate"] == 10, 9, 1))
    assert "not confirmed (against" in in_words(choosing, worse)
    better_paper = rows.assign(test_error=np.where(rows["q_rate"] == 1, 0.0, 0.5))
    assert taken(better_paper[better_paper["seed"] >= CHOOSING]) == (what_varies(PAPER), "refitted")


def test_what_hurts_is_said():
    rows = made(ERRORS)
    off = np.where(rows["q_rate"] == 10, 0.2, 0.6) + 0.001 * rows["seed"]
    rows = rows.assign(shift_auroc=off + 0.01 * np.where(rows["q_rate"] == 10, rows["seed"] % 2, 0))
    said = in_words(rows[rows["seed"] >= CHOOSING], rows[rows["seed"] < CHOOSING])
    assert "AUROC off the data: -0.395" in said and "it hurts" in said.partition("AUROC")[2]


def test_a_depth_is_retrained_where_a_network_of_that_repeat_is_there():
    rows = made(ERRORS)
    ddn = pd.DataFrame({"seed": [0, 1, 2, 3] * 2, "max_depth": [5] * 4 + [6] * 4})
    ddn = ddn.assign(DDN_test_error=[0.01] * 4 + [0.02] * 4, kind="DDN", protocol=None)
    table = retrained_table(rows[rows["seed"] < CHOOSING], ddn[ddn["seed"] < 3]).set_index("q")
    assert table.loc["as learnt", "n, retrained at d_opt"] == 3
    assert table.loc["as learnt", "LDN-95 minus retrained at d_opt"].startswith("+1.5 [")


def test_the_same_difference_from_another_training():
    rows = made(ERRORS)
    again = rows[(rows["variation"] == AS_IS) & (rows["fit"] == "as learnt") & (rows["seed"] < CHOOSING)]
    again = pd.DataFrame({"seed": again["seed"], "LDN-95_test_error": again["test_error"] + 0.01013})
    said, confirming = trained_again(rows, again), rows[rows["seed"] < CHOOSING]
    best = taken(rows[rows["seed"] >= CHOOSING])
    assert best is not None
    mean = 100 * gap(confirming, *best, "test_error")[0] - 1.013
    assert f"seeds that confirm: {mean:+.3g} [" in said and f"all {rows['seed'].nunique()} seeds" in said
    assert trained_again(rows, again[:0]) == ""


def test_the_page_and_its_figure():
    rows = made(ERRORS)
    page = learnt_depth_page(rows, empty("runs"), empty("runs"), [])
    assert "## D = 20" in page and "| as in the paper | as learnt | 2 |" in page and REPAIR.claim in page
    said = "refitted minus as learnt, on the 2 seeds that choose: cut at 5.0 instead of 5.0, test error +0.25 ["
    assert said in page and "nan" not in page
    drawn = figure(rows)
    assert drawn is not None and len(drawn.axes) == 3
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == list(rows["variation"].unique())


def test_the_scan_confirms_what_the_rule_takes_from_the_committed_table():
    rows = with_words(variations.read_tables(RESULTS)["variations"])
    assert (rows["started"] >= REPAIR.since).all() and set(rows["max_depth"]) == {20}
    best = taken(rows[rows["seed"] >= CHOOSING])
    assert best is not None
    confirmed = load("learnt_depth").CHOSEN
    assert what_varies({**PAPER, **confirmed}) == best[0]
    assert set(rows.groupby(["variation", rows["seed"] >= CHOOSING])["seed"].nunique()) == {16}
