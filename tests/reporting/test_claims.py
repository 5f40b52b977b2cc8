"""Verdicts on runs made up so that the right answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
from conftest import complete

from depthsearch.reporting.intervals import interval_of
from depthsearch.reporting.judging.claims import after, image_claims, spiral_claims
from depthsearch.reporting.judging.rules import ADDED_FROM, CALIBRATION, PRUNING
from depthsearch.reporting.pages import images as images_page
from depthsearch.reporting.pages.costs import costs
from depthsearch.reporting.pages.images import (
    calibration_of_depths,
    chosen_depths,
    image_runs,
    image_scale,
    image_table,
    kept_early,
    prediction_table,
    protocol_gap,
    selected_by_elbo,
)
from depthsearch.reporting.pages.readme import claims_in_words
from depthsearch.reporting.pages.results import counted_otherwise, results_page
from depthsearch.reporting.pages.spirals import bends
from depthsearch.reporting.parts import cohorts, first_cohorts, ldn_and_ddn, reference_depth
from depthsearch.reporting.tables.depth_scans import largest_rise
from depthsearch.reporting.tables.files import thin
from depthsearch.reporting.tables.schema import with_all_columns

BEST = "the DDN best on validation points of other repeats"
NO_CLAIMS = image_claims(complete({}))
METRICS = ("error", "log_likelihood", "ece", "brier", "mean_true_class_probability", "paper_ece")


def made_up_run(kind, max_depth, seed, error, data_set="MNIST", protocol="fair", epochs=15, d_opt=3, valid=None):
    """A row of the table of runs: every variant has the given error; all other metrics follow from it."""
    scan = "scan_max_depth_images" if kind == "LDN" else "scan_deterministic_depth_images"
    row = {"scan": scan, "data_set": data_set, "kind": kind, "max_depth": max_depth, "seed": seed}
    row |= {"protocol": protocol, "precision": "bfloat16", "epochs_limit": epochs, "pruned_depth": d_opt}
    row |= {"best_epoch": epochs - seed, "selected_by": "log_likelihood", "device": "CPU (made up), 1 thread"}
    row |= {"valid_error": error if valid is None else valid}
    row["valid_log_likelihood"] = -row["valid_error"]
    for variant in ("LDN-95", "LDN-E", "LDN-full") if kind == "LDN" else ("DDN",):
        values = dict(zip(METRICS, (error, -error, error, error, 1 - error, error), strict=True))
        row |= {f"{variant}_test_{name}": value for name, value in values.items()}
        row |= {f"{variant}_depth": d_opt if variant == "LDN-95" else max_depth}
    return row


@pytest.fixture
def tables():
    """Two repeats of `some_runs`."""
    return {"runs": some_runs((0, 1))}


def some_runs(seeds):
    """The LDN is 0.1 points worse than DDN 5, which validation chooses; DDN 10 is best on the test set."""
    rows = []
    for seed in seeds:
        base = 0.02 + 0.01 * seed
        rows += [made_up_run("LDN", depth, seed, base + 0.001) for depth in (5, 10, 20)]
        rows += [made_up_run("DDN", 5, seed, base, valid=0.01), made_up_run("DDN", 10, seed, base - 0.005, valid=0.3)]
        rows += [made_up_run("DDN", 20, seed, base + 0.02, valid=0.2)]
        rows.append(made_up_run("LDN", 20, seed, 0.1, data_set="Fashion-MNIST", d_opt=7 + seed))
        rows.append(made_up_run("LDN", 20, seed, 0.5, protocol="paper"))
        rows.append(made_up_run("LDN", 20, seed, 0.5, epochs=3))
    return pd.DataFrame(rows)


def test_paired_interval_against_a_worked_example():
    mean, low, high, n = interval_of(pd.Series([1.0, 2.0, 3.0]))
    assert (mean, n) == (2.0, 3)
    half = 4.302652729911275 / 3**0.5  # t(0.975, 2) * std 1 / sqrt 3
    assert (low, high) == pytest.approx((2 - half, 2 + half))


def test_time_saved_is_within_a_run_and_of_runs_that_were_timed(tables):
    runs = tables["runs"].assign(device="this CPU")
    assert prediction_table(
        {"runs": with_all_columns("runs", runs)}
    ).empty  # made before deterministic networks were timed too
    keep = (runs["kind"] == "LDN") & (runs["max_depth"] == 20) & (runs["data_set"] == "MNIST")
    runs = runs[keep & (runs["epochs_limit"] == 15)]
    seconds = {"DDN": [4.0, 8.0], "LDN-full": [5.0, 9.0], "LDN-95": [3.0, 4.0], "DDN-95": [2.0, 4.0]}
    fair = runs[runs["protocol"] == "fair"].assign(**{f"{k}_predict_seconds": v for k, v in seconds.items()})
    untimed = runs[runs["protocol"] == "paper"].assign(protocol="fair", max_depth=10)
    table = prediction_table({"runs": pd.concat([fair, untimed])})
    assert table["D"].tolist() == [20] and table["hardware"].tolist() == ["this CPU"]
    assert table["saved of DDN of D by pruning (%)"].tolist() == ["37.5 ± 18"]  # of 25 and 50
    assert table["DDN of d_opt"].tolist() == ["3 ± 1.4"]


def test_runs_of_different_making_never_mix(tables):
    parts = cohorts(tables)
    assert list(parts) == ["fair_bfloat16_15epochs", "fair_bfloat16_3epochs", "paper_bfloat16_15epochs"]
    assert [len(part["runs"]) for part in parts.values()] == [14, 2, 2]


def test_networks_of_other_epochs_are_not_held_against_each_other():
    rows = [made_up_run("LDN", 5, 0, 0.1, epochs=15), *(made_up_run("DDN", 5, 0, 0.2, epochs=n) for n in (15, 30))]
    runs = pd.DataFrame(rows).assign(scan=lambda runs: runs["scan"].str.replace("images", "spirals"))
    ldn, ddn = ldn_and_ddn(runs, "spirals")
    assert ldn["epochs_limit"].tolist() == ddn["epochs_limit"].tolist() == [15]
    assert len(ldn_and_ddn(runs[runs["kind"] == "DDN"], "spirals")[1]) == 2


def test_how_the_chosen_depth_grows_below_what_claim_4a_judges():
    def of(*depths):
        rows = [made_up_run("LDN", D, s, 0.1, d_opt=d + s % 2) for s in range(4) for D, d in depths]
        return {"runs": pd.DataFrame(rows)}

    said = chosen_depths(of((0, 0), (10, 8), (20, 14), (40, 40)))
    grows = "8.5 ± 0.58 at D = 10, 14.5 ± 0.58 at D = 20; from D = 10 to 20 by +0.6 [+0.6, +0.6]"
    assert said.endswith(f"- MNIST, `fair_bfloat16_15epochs`: {grows} layers a layer (n = 4).\n\n")
    assert chosen_depths(of((10, 8), (30, 14))) == chosen_depths(of((0, 0), (20, 14))) == ""
    runs = of((10, 8), (20, 14))["runs"]
    assert chosen_depths({"runs": runs[(runs["seed"] < 2) == (runs["max_depth"] == 10)]}) == ""  # none has both


def test_image_claims():
    found = image_claims({"runs": some_runs(range(4))})
    fair = found[(found["runs"] == "fair_bfloat16_15epochs") & (found["data"] == "MNIST")].set_index("quantity")
    rows = {name: tuple(row[["difference", "margin", "n", "verdict"]]) for name, row in fair.iterrows()}
    late = "reproduced after 15 epochs"
    assert rows == {
        "test error, LDN-95 minus LDN-full (D = 20)": ("+0 [+0, +0] points", "0.36", 4, late),
        "negative test log-likelihood, LDN-95 minus LDN-full (D = 20)": ("+0 [+0, +0] nats", "0.0036", 4, late),
        f"test error, LDN-95 (D = 20) minus {BEST} (D = 5)": (
            "+0.1 [+0.1, +0.1] points",
            "0.35",
            4,
            f"{late}: worse, within the margin",
        ),
        f"negative test log-likelihood, LDN-95 (D = 20) minus {BEST} (D = 5)": (
            "+0.001 [+0.001, +0.001] nats",
            "0.0035",
            4,
            f"{late}: worse, within the margin",
        ),
        "ECE, LDN-full (D = 20) minus regular network of D = 20": ("-1.9 [-1.9, -1.9] points", "0", 4, late),
        "ECE, LDN-full (D = 20) minus the best DDN (D = 5)": ("+0.1 [+0.1, +0.1] points", "0", 4, f"not {late}"),
        "slope of d_opt against D, D >= 20": ("-", "±0.1", 4, "not measured: needs more depths from 20 on"),
    }
    (harder,) = found[found["data"] == "both"].to_dict("records")
    assert harder["difference"].startswith("+5.5 [") and harder["verdict"] == late


def distinct_runs():
    """No two columns that a claim could read are alike, and no two depths; repeats are."""
    shares = {"LDN-95": 0.1, "LDN-E": 0.2, "LDN-full": 0.3}
    rows = []
    for seed in range(4):
        for depth in (10, 20):
            row = made_up_run("LDN", depth, seed, 0.0, d_opt=depth // 2, valid=0.9)
            for variant, share in shares.items():
                here = share + (depth == 10)
                row |= {f"{variant}_test_error": here, f"{variant}_test_log_likelihood": -10 * here}
                row |= {f"{variant}_test_ece": here / 10, f"{variant}_test_paper_ece": here / 7}
            rows.append(row)
        # On validation points D = 10 errs least and D = 30 is the most likely; on test points neither.
        for depth, valid_error, valid, error, likelihood, ece in (
            (10, 0.4, -0.6, 0.05, -0.8, 0.001),
            (20, 0.5, -0.5, 0.04, -0.7, 0.015),
            (30, 0.6, -0.4, 0.06, -0.9, 0.002),
        ):
            row = made_up_run("DDN", depth, seed, error, valid=valid_error) | {"valid_log_likelihood": valid}
            rows.append(row | {"DDN_test_log_likelihood": likelihood, "DDN_test_ece": ece, "DDN_test_paper_ece": 0.2})
    return pd.DataFrame(rows)


DISTINCT = {
    "test error, LDN-95 minus LDN-full (D = 20)": -20,  # points
    "negative test log-likelihood, LDN-95 minus LDN-full (D = 20)": -2,  # 1 - 3 nats
    f"test error, LDN-95 (D = 20) minus {BEST} (D = 10)": 5,
    f"negative test log-likelihood, LDN-95 (D = 20) minus {BEST} (D = 30)": 0.1,  # 1 - 0.9
    "ECE, LDN-full (D = 20) minus regular network of D = 20": 1.5,  # 3 - 1.5 points
    "ECE, LDN-full (D = 20) minus the best DDN (D = 30)": 2.8,  # best by log-likelihood
}


def test_every_claim_reads_its_own_columns():
    found = image_claims({"runs": distinct_runs()}).set_index("quantity")["difference"]
    assert {name: float(found.pop(name).split(" [")[0]) for name in DISTINCT} == DISTINCT
    assert list(found) == ["-"]  # the slope, of one depth from 20 on


def test_the_best_ddn_is_told_once_where_it_is_the_one_of_the_reference():
    runs = distinct_runs()
    tables = {"runs": runs[runs["max_depth"] < 30]}  # on validation points D = 20 is the most likely of these
    quantities = image_claims(tables)["quantity"]
    assert list(quantities[quantities.str.startswith("ECE")]) == [
        "ECE, LDN-full (D = 20) minus regular network of D = 20, the best DDN"
    ]
    methods = image_table(tables)["method"]
    best = "DDN (D = 20), best log-likelihood on validation points of other repeats"
    assert list(methods[methods.str.startswith("DDN")]) == ["DDN (D = 10)", best]


def test_claim_3_against_the_ddn_of_every_depth():
    """ECE of LDN-full at D = 20 is 3 points; of D = 30 there are too few repeats for a word. Epochs are made up."""
    runs = distinct_runs()
    said = calibration_of_depths({"runs": runs[(runs["max_depth"] < 30) | (runs["seed"] < 3)]})
    name, kept = "- MNIST, `fair_bfloat16_15epochs`, LDN of D = 20", "(epoch 13.5 ± 1.3)"
    assert f"{name} {kept}: D = 10: +2.9 [+2.9, +2.9] {kept}, D = 20: +1.5 [+1.5, +1.5] {kept}." in said
    assert "30" not in said
    assert calibration_of_depths({"runs": runs[runs["seed"] < 3]}) == ""


def test_claims_on_spirals_each_from_its_scan():
    """As on images at D = 20; d_opt grows by 2 layers a turn, or where points are held out by 1."""
    depths = distinct_runs().assign(scan=lambda runs: runs["scan"].str.replace("images", "spirals"))
    fair = depths.assign(scan=depths["scan"] + "_fair", **{"LDN-95_test_error": 0.5})
    turns = [
        made_up_run("LDN", 20, seed, 0.1, d_opt=3 + layers * turn)
        | {"scan": f"scan_spiral_complexity{end}", "stop_angle": 360 * turn}
        for seed in range(4)
        for turn in (1, 2, 3)
        for end, layers in (("", 2), ("_fair", 1))
    ]
    for end, layers, error in (("", "+2 [+2, +2] layers a turn", -20), ("_fair", "+1 [+1, +1] layers a turn", 20)):
        found = spiral_claims({"runs": pd.concat([depths, fair, pd.DataFrame(turns)])}, end).set_index("quantity")
        told = found["difference"]
        assert told["slope of d_opt against the angle"] == layers
        assert found["verdict"]["slope of d_opt against the angle"] == "reproduced"
        assert float(told["test error, LDN-95 minus LDN-full (D = 20)"].split(" [")[0]) == error
        assert len(found) == len(DISTINCT) + 2


def of_spirals(chosen, scan="scan_max_depth_spirals_fair", started="2026-11-29T12:00", configuration="new"):
    """Four repeats of LDN on spirals, whose d_opt is `chosen` at each D."""
    rows = [made_up_run("LDN", depth, seed, 0.1, d_opt=d) for seed in range(4) for depth, d in chosen.items()]
    about = {"scan": scan, "started": started, "cohort": configuration, "configuration": configuration}
    about |= {"epochs": 15, "training_seconds": 60.0}
    return pd.DataFrame(rows).assign(**about)


def test_a_line_with_a_bend_is_told_in_two_parts():
    runs = of_spirals({10: 9, 20: 5, 50: 8, 60: 12, 100: 28})
    said = bends({"runs": runs}, "_fair")
    assert "from D = 20 to 50 +0.1 [+0.1, +0.1], from D = 50 to 100 +0.4 [+0.4, +0.4] (n = 4)." in said
    assert "The chosen depth is 5 ± 0 at D = 20 and 28 ± 0 at D = 100." in said
    added = runs[runs["max_depth"] == 20].assign(seed=lambda rows: rows["seed"] + 4, pruned_depth=9)
    assert bends({"runs": pd.concat([runs, added])}, "_fair") == said  # of repeats that have all D
    for fewer in (runs[runs["max_depth"] <= 50], runs[runs["seed"] < 3]):
        assert bends({"runs": fewer}, "_fair") == ""
    assert bends({"runs": runs}) == ""


def test_what_the_replaced_runs_said_stands_below_what_replaced_them():
    now = of_spirals({20: 5, 50: 8})
    before = of_spirals({20: 5, 30: 9, 50: 17}, started="2026-11-29T08:00", configuration="old")
    trial = of_spirals({20: 5}, configuration="trial")  # a later one is no replaced one
    tables = complete({"runs": pd.concat([before, now, trial])})
    page = results_page(complete(tables | {"runs": now}), tables, [], "", "")
    later, _, earlier = page.partition("What those 12 said, DDN of 0 depths among them:")
    assert "+0.1 [+0.1, +0.1] layers a layer" in later and "+0.4 [+0.4, +0.4] layers a layer" in earlier
    assert "What those" not in results_page(complete(tables | {"runs": now}), complete({"runs": now}), [], "", "")


def test_what_added_repeats_say_alone_stands_below_what_all_say():
    """Four repeats of before and, where d_opt grows faster, four that were added, and of these nothing but LDN."""
    first, added = of_spirals({20: 5, 50: 8}), of_spirals({20: 5, 50: 17})
    turns = of_spirals({20: 5}, scan="scan_spiral_complexity_fair").assign(stop_angle=360.0)
    more = [rows.assign(seed=rows["seed"] + ADDED_FROM) for rows in (added, turns)]
    tables = complete({"runs": pd.concat([first, *more])})
    of_all, _, alone = results_page(tables, tables, [], "", "").partition(f"What the repeats from {ADDED_FROM} on say")
    alone = alone.partition("### On images")[0]
    assert "+0.25 [+0.116, +0.384] layers a layer" in of_all and "| 8 |" in of_all
    assert "+0.4 [+0.4, +0.4] layers a layer" in alone and "| 4 |" in alone and "4b." not in alone
    one = complete({"runs": pd.concat([first, more[0][more[0]["max_depth"] == 20]])})  # of which no slope is measured
    assert "4a." not in results_page(one, one, [], "", "").partition("What the repeats from")[2].partition("###")[0]
    tables = complete({"runs": first})
    assert "What the repeats" not in results_page(tables, tables, [], "", "")


def test_a_ddn_of_one_depth_is_no_manual_search():
    runs = some_runs(range(4))
    one = runs[(runs["kind"] == "LDN") | (runs["max_depth"] == 20)]
    said = image_claims({"runs": one})
    assert not said["claim"].str.startswith("2.").any()
    ece = said[said["claim"].str.startswith("3.")]["quantity"]
    assert list(ece) == ["ECE, LDN-full (D = 20) minus regular network of D = 20"]
    assert not image_table({"runs": one})["method"].str.contains("best").any()


def test_a_single_repeat_has_no_interval():
    said = image_claims({"runs": some_runs([0])})["difference"]
    assert "+0.1 points" in set(said) and not said.str.contains("nan").any()


def test_the_first_page_tells_of_each_data_set_by_its_longest_runs():
    """MNIST was trained for 15 epochs; Fashion-MNIST for 45 epochs too, but as yet no DDN was."""
    longer = [made_up_run("LDN", 10, seed, 0.1, data_set="Fashion-MNIST", epochs=45) for seed in range(4)]
    tables = {"runs": pd.concat([some_runs([0, 1]), pd.DataFrame(longer)])}
    assert {name: way for name, (way, _) in first_cohorts(tables).items()} == {
        "Fashion-MNIST": "fair_bfloat16_45epochs",
        "MNIST": "fair_bfloat16_15epochs",
    }
    words = claims_in_words(NO_CLAIMS, NO_CLAIMS, image_claims(tables)).set_index("claim")
    pruning, _, calibration, _, difficulty = words.to_dict("records")
    assert pruning["Fashion-MNIST"] == "reproduced after 45 epochs (n = 4)"
    assert pruning["MNIST"] == "undecided after 15 epochs (n = 2)"
    assert difficulty["Fashion-MNIST"] == "undecided after 15 epochs (n = 2)"
    assert calibration["Fashion-MNIST"] == "not run"
    assert image_scale(tables).startswith(
        "Images (the paper: 500 epochs): Fashion-MNIST `fair_bfloat16_45epochs`, LDN of D = 10 (n = 4); "
        "MNIST `fair_bfloat16_15epochs`, LDN of D = 5, 10, 20 (n = 2), DDN of D = 5, 10, 20 (n = 2). "
        "d_opt: Fashion-MNIST 3 ± 0 at D = 10; MNIST 3 ± 0 at D = 20. No run on a GPU; "
    )


def test_the_first_page_says_which_epochs_were_selected_on_test_points():
    rows = [made_up_run("LDN", 20, seed, 0.1, data_set="SVHN", protocol="paper", epochs=500) for seed in range(4)]
    words = claims_in_words(NO_CLAIMS, NO_CLAIMS, image_claims({"runs": pd.DataFrame(rows)}))
    assert words["SVHN"][0] == "reproduced (n = 4 of epochs selected on test points)"


def test_long_runs_come_before_short_ones_of_another_precision():
    long = pd.DataFrame([made_up_run("LDN", 20, 0, 0.1, epochs=500) | {"precision": "float32"}])
    runs = pd.concat([some_runs([0]), long])
    assert next(iter(cohorts({"runs": runs}))) == "fair_float32_500epochs"


def test_a_data_set_all_of_whose_runs_diverged_was_run():
    lost = pd.DataFrame([made_up_run("LDN", 20, 0, 0.1, data_set="SVHN") | {"epoch": 3}])
    said = image_runs({"runs": some_runs([0]), "diverged": lost})
    assert "- SVHN: all runs diverged: " in said and "SVHN: not run" not in said


def test_no_verdict_from_fewer_than_four_repeats(tables):
    """Not even of errors that differ alike: those are counts as well as depths are."""
    verdicts = set(image_claims(tables)["verdict"].str.replace(r" after \d+ epochs", "", regex=True))
    assert verdicts == {"undecided: needs 4 repeats", "not measured: needs more depths from 20 on"}


def test_what_the_elbo_selected_is_said_beside_what_the_prediction_selects(tables):
    """On the page of results with numbers, on the first page in a few words."""
    assert selected_by_elbo(complete(tables)) == "" and "again" not in image_scale(complete(tables))
    runs = tables["runs"].assign(configuration="1")
    runs["selected_by"] = runs["selected_by"].where(runs["max_depth"] != 10, None)  # as in tables of before
    here = runs[(runs["kind"] == "LDN") & (runs["max_depth"] == 10)]
    points = [(1, -2.0, 0.5), (7, -0.5, 0.07), (9, -1.0, 0.01)]
    columns = ("epoch", "valid_log_likelihood", "valid_error")
    curves = pd.concat([here.assign(**dict(zip(columns, p, strict=True))) for p in points], ignore_index=True)
    found = selected_by_elbo(complete({"runs": runs, "curves": curves}))
    (line,) = (line for line in found.splitlines() if line.startswith("- "))
    assert line.startswith(
        "- MNIST, `fair_bfloat16_15epochs`, D = 10 (n = 2): epoch 14.5 ± 0.71 kept, 7 ± 0 the best; "
    )
    assert line.endswith(" % kept, 7 ± 0 % the best.")
    assert "LDN of MNIST are [to be run again]" in image_scale(complete({"runs": runs}))


def test_networks_that_kept_an_epoch_before_the_step_are_counted():
    """Epochs 45 and 44 of the DDN are after the step, 30 and 29 of LDN before it; the errors are those below."""
    rows = [made_up_run(kind, 10, seed, 0.1, epochs=45) for kind in ("LDN", "DDN") for seed in (0, 1)]
    runs = pd.DataFrame(rows).assign(configuration="1")
    runs["best_epoch"] -= 15 * (runs["kind"] == "LDN")
    errors = {20: 0.3, 30: 0.1, 40: 0.05}
    curves = pd.concat([runs.assign(epoch=e, valid_error=error + 0.01 * runs["seed"]) for e, error in errors.items()])
    ddn, ldn = kept_early(complete({"runs": runs, "curves": curves})).splitlines()[-3:-1]
    assert "| DDN (D = 10) | 0 of 2 | 44.5 ± 0.71 | 10 ± 0 | 5.5 ± 0.71 |" in ddn
    assert "| LDN (D = 10) | 2 of 2 | 29.5 ± 0.71 | 10 ± 0 | 5.5 ± 0.71 |" in ldn
    assert image_scale(complete({"runs": runs})).count("\nOf networks 2 of 4 on MNIST kept an epoch before ") == 1
    assert "before" not in image_scale(complete({"runs": runs[runs["kind"] == "DDN"]}))
    for less in ({"runs": runs}, {"runs": runs[runs["kind"] == "DDN"], "curves": curves}):
        assert kept_early(complete(less)) == ""  # no errors of epochs, none that early
    assert kept_early(complete({"runs": runs.assign(protocol="paper"), "curves": curves})) == ""  # LDN has no step


def test_runs_that_counted_another_ece_are_named():
    runs = pd.DataFrame({"started": ["", "2026-11-30T19:42:59+00:00", "2026-12-01T08:00:00+00:00"]})
    assert "In 2 of the 3 runs, those of before 2026-11-30, 19:43 UTC" in counted_otherwise({"runs": runs})
    assert counted_otherwise({"runs": runs[2:]}) == ""


def test_claim_1_needs_no_ddn():
    """It is judged at the depth that LDN has, the others at the one that both have."""
    runs = [made_up_run(kind, D, s, 0.1) for s in range(4) for kind, D in (("LDN", 5), ("LDN", 20), ("DDN", 5))]
    said = image_claims(complete({"runs": pd.DataFrame(runs)})).groupby("claim")["quantity"].agg(" ".join)
    assert "D = 20" in said[PRUNING.claim] and "D = 5" not in said[PRUNING.claim]
    assert "LDN-full (D = 5) minus regular" in said[CALIBRATION.claim]


def test_pruning_is_judged_at_the_reference_depth():
    """At D = 5 nothing is cut, and the difference is 0: that says nothing about D = 20."""
    rows = [made_up_run("LDN", depth, seed, 0.1) for depth in (5, 20) for seed in range(4)]
    for row in rows:
        row["LDN-95_test_error"] += 0.02 * (row["max_depth"] == 20) + 1e-5 * row["seed"]
    difference, verdict = verdict_of({"runs": pd.DataFrame(rows)}, "test error, LDN-95 minus LDN-full (D = 20)")
    assert difference == "+2 [+2, +2] points" and verdict == "not reproduced after 15 epochs"


def test_a_chosen_depth_that_falls_does_not_stay_put():
    for depths, said in (((9, 9, 9), "reproduced"), ((9, 5, 1), "not reproduced"), ((1, 5, 9), "not reproduced")):
        chosen = dict(zip((20, 30, 40), depths, strict=True))
        runs = [made_up_run("LDN", D, s, 0.1, d_opt=d) for s in range(4) for D, d in chosen.items()]
        assert verdict_of({"runs": pd.DataFrame(runs)}, "slope")[1] == f"{said} after 15 epochs"


def test_networks_trained_as_long_as_the_papers_need_no_caveat():
    rows = [made_up_run("LDN", 20, seed, 0.1, epochs=500) for seed in range(4)]
    assert verdict_of({"runs": pd.DataFrame(rows)}, "test error")[1] == "reproduced"
    assert after(15, "undecided: why") == "undecided after 15 epochs: why" and after(500, "undecided") == "undecided"


def verdict_of(tables, claim):
    (row,) = (r for r in image_claims(tables).to_dict("records") if r["quantity"].startswith(claim))
    return row["difference"], row["verdict"]


def test_the_margin_is_a_share_of_a_small_reference():
    """0.1 points are little beside 2.5 % of error, and much beside 0.5 %."""
    for base, said in ((0.025, "reproduced after 15 epochs: worse, within the margin"), (0.005, "not reproduced")):
        rows = [made_up_run("LDN", 20, seed, base + 0.001 + 1e-6 * seed) for seed in range(4)]
        rows += [made_up_run("DDN", depth, seed, base) for seed in range(4) for depth in (10, 20)]
        difference, verdict = verdict_of({"runs": pd.DataFrame(rows)}, "test error, LDN-95 (D = 20) minus the DDN")
        assert difference == "+0.1 [+0.0999, +0.1] points" and verdict.startswith(said)


def test_the_slope_needs_four_repeats():
    for n, said in ((2, "undecided after 15 epochs: needs 4 repeats"), (4, "not reproduced after 15 epochs")):
        rows = [made_up_run("LDN", d, seed, 0.1, d_opt=d // 2) for seed in range(n) for d in (10, 20, 30)]
        assert verdict_of({"runs": pd.DataFrame(rows)}, "slope") == ("+0.5 [+0.5, +0.5] layers a layer", said)


def test_metrics_that_some_networks_have_not_say_of_how_many_they_are():
    runs = pd.DataFrame([made_up_run("DDN", 5, seed, 0.1) for seed in range(3)])
    runs.loc[0, "DDN_test_ece"] = np.nan
    said = images_page.test_metrics(runs, "DDN")
    assert said["ECE (%)"].endswith(" (n = 2)") and "n =" not in said["error (%)"]


def test_the_reference_depth_is_the_deepest_of_those_with_the_most_repeats():
    def of(**repeats: int) -> pd.DataFrame:
        pairs = [(int(depth[1:]), seed) for depth, n in repeats.items() for seed in range(n)]
        return pd.DataFrame(pairs, columns=["max_depth", "seed"])

    ldn = of(D5=4, D10=4, D20=2, D50=1)
    assert reference_depth(ldn) == reference_depth(ldn, of(D10=4, D20=4)) == 10
    assert reference_depth(ldn, of(D20=4)) == 20 and reference_depth(ldn, of(D30=4)) is None
    assert reference_depth(of(D50=4, D100=4)) == 50 and reference_depth(of()) is None


def test_a_setting_is_a_limit_on_epochs_too(tables):
    runs = tables["runs"].assign(epochs=3, training_seconds=60)
    rows = costs({"runs": runs, "diverged": pd.DataFrame(columns=["scan"])}).set_index("scan")
    ldn = rows.loc["scan_max_depth_images"]
    assert ldn["settings"] == 6 and ldn["minutes of training"] == "12.0"
    assert ldn["epochs: mean, limit, runs that reached it"] == "3, 3 to 15, 17 %"


def test_the_gap_between_protocols_is_the_largest_rise_of_validation_error():
    rises = {"paper": (0.19, 0.05), "fair": (0.01, 0.002)}
    rows = [
        made_up_run("LDN", 20, seed, 0.1, protocol=protocol) | {"largest_rise": rise}
        for protocol, of_seeds in rises.items()
        for seed, rise in enumerate(of_seeds)
    ]
    said = protocol_gap({"runs": pd.DataFrame(rows)})
    assert "\n- MNIST, LDN, D = 20: 19 points under `paper` (n = 2), 1 under `fair` (n = 2).\n" in said
    assert said.endswith("Of all 2 runs under `fair` the largest: 1 points (MNIST, LDN, D = 20).")
    assert protocol_gap({"runs": pd.DataFrame(rows[:2])}) == ""


def test_a_rise_is_one_of_the_whole_history_whose_curve_is_thinned_in_tables():
    history = [{"epoch": epoch, "valid_error": 0.1} for epoch in range(1, 201)]
    history[103]["valid_error"] = 0.4  # no row of `curves`
    kept = [row["epoch"] for row in thin(history)]
    assert 104 not in kept and kept[-1] == 200 and len(kept) <= 40
    assert thin(history[:40]) == history[:40] and thin(history[:1]) == history[:1] and thin([]) == []
    assert largest_rise(history) == pytest.approx(0.3)
    assert largest_rise([*history[:50], *history[103:]]) == 0  # epochs that do not follow each other
    assert math.isnan(largest_rise([{"epoch": 1}, {"epoch": 2}]))


def test_a_network_that_cannot_be_cut_says_nothing_of_pruning(tables):
    stem_alone = pd.DataFrame([made_up_run("LDN", 0, seed, 0.5) for seed in (0, 1)])
    found = image_claims({"runs": pd.concat([tables["runs"], stem_alone])})
    assert set(found[found["claim"].str.startswith("1.")]["quantity"].str.split(" = ").str[-1]) == {"20)"}
    assert image_claims({"runs": stem_alone}).empty


def test_the_page_says_what_is_reduced_and_what_was_not_run(tables):
    text = image_runs(complete(tables))
    assert "MNIST, `fair_bfloat16_15epochs`: reduced, 15 of 500 epochs, LDN of D = 5, 10, 20 (n = 2)" in text
    fewer = tables["runs"][(tables["runs"]["max_depth"] != 10) | (tables["runs"]["seed"] == 0)]
    assert "LDN of D = 5, 20 (n = 2) and D = 10 (n = 1), DDN of D" in image_runs(complete({"runs": fewer}))
    assert "after epoch 30 not reached; last epoch the best in 6 of 12 runs; diverged: none." in text
    long = tables["runs"].assign(epochs_limit=45)
    step = "learning-rate step after epoch 30, of LDN too"
    assert step in image_runs(complete({"runs": long})) and step not in text
    assert step not in image_runs(complete({"runs": long[long["kind"] == "DDN"]}))
    assert step not in image_runs(complete({"runs": long.assign(protocol="paper")}))
    assert "No run is on a GPU" in text
    assert "SVHN: not run." in text and "- MNIST: not run." not in text
    table = image_table(tables)
    best = table[table["method"] == "DDN (D = 5), best log-likelihood on validation points of other repeats"]
    assert len(best) == 1 and best["error (%)"].iloc[0] == "2.5 ± 0.71" and best["n"].iloc[0] == 2
