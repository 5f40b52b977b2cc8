"""Figures on whose scales one run does not hide the others."""

import itertools
import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from depthsearch.reporting.figures import images
from depthsearch.reporting.figures import spirals as figures
from depthsearch.reporting.figures.style import log_ticks, reliability_diagrams
from depthsearch.reporting.pages.spirals import _astray
from depthsearch.reporting.tables.depth_scans import overflowed_last
from depthsearch.reporting.words import spread


def losses(kind, variant, values):
    """Runs of depths 5 and 10, one for each value of the negative log-likelihood."""
    scan = "scan_max_depth_spirals" if kind == "LDN" else "scan_deterministic_depth_spirals"
    same = {
        "scan": scan,
        "data_set": "spirals",
        "kind": kind,
        "width": 20,
        "n": 2000,
        "stop_angle": 720.0,
        "noise": 0.2,
        "epochs_limit": 8000,
    }
    rows = [
        same | {"max_depth": depth, "seed": seed, f"{variant}_test_log_likelihood": -v, f"{variant}_test_error": v / 10}
        for depth in (5, 10)
        for seed, v in enumerate(values)
    ]
    return pd.DataFrame(rows).assign(pruned_depth=4, expected_depth=4.5, configuration="1", cohort="1", started="")


def test_a_loss_of_1e30_does_not_hide_the_others():
    runs = pd.concat([losses("LDN", "LDN-95", [0.1, 0.2, 0.4]), losses("DDN", "DDN", [0.1, 0.3, 1e30])])
    figure = figures.spiral_depths({"runs": runs})
    assert figure is not None
    low, high = figure.axes[1].get_ylim()
    assert low == pytest.approx(0.2 / 3) and high == pytest.approx(0.9)
    ldn, ddn = figure.axes[1].lines
    assert list(ldn.get_ydata()) == pytest.approx([0.2, 0.2]) and list(ddn.get_ydata()) == pytest.approx([0.3, 0.3])
    assert list(figure.axes[2].lines[1].get_ydata()) == pytest.approx([3.0, 3.0])  # percent
    plt.close(figure)


def test_infinite_losses_and_errors_of_zero_leave_the_scales_finite():
    runs = pd.concat([losses("LDN", "LDN-95", [0.1, 0.2, 0.4]), losses("DDN", "DDN", [0.0, math.nan, math.nan])])
    runs = overflowed_last(runs.assign(**{"DDN_test_error": 0.0}))
    figure = figures.spiral_depths({"runs": runs})
    assert figure is not None
    assert list(figure.axes[1].lines[1].get_ydata()) == [math.inf, math.inf]
    assert figure.axes[1].get_ylim() == pytest.approx((0.2 / 3, 0.6))
    assert figure.axes[2].get_ylim() == pytest.approx((2.0 / 3, 6.0))
    plt.close(figure)


def test_networks_that_go_astray_are_counted():
    few = losses("DDN", "DDN", [0.1, 0.3, 1e30]).assign(scan="x")
    deep = pd.concat([few.assign(max_depth=40), few.assign(max_depth=50)])
    runs = pd.concat([few, deep, few.assign(scan="y")])
    said = _astray({"runs": runs}, "x")
    assert said.startswith(
        "4 of the 12 networks of depth 40 or more and 2 of the 6 networks of depth below 40 have a test "
        "log-likelihood below -5 nats."
    )
    assert _astray({"runs": few}, "x").startswith("2 of the 6 networks of depth below 40 have")
    assert "variance" in said and "overflow" not in said
    none = losses("DDN", "DDN", [0.1, 0.3]).assign(scan="x")
    assert _astray({"runs": none}, "x") == "No network has a test log-likelihood below -5 nats."
    assert _astray({"runs": none}, "y") == _astray({"runs": none.assign(kind="LDN")}, "x") == ""


def test_a_network_whose_logits_overflow_comes_last():
    runs = overflowed_last(losses("DDN", "DDN", [0.1, 0.3, math.nan]).assign(DDN_test_error=0.01))
    said = _astray({"runs": runs.assign(scan="x")}, "x")
    assert said.startswith("2 of the 6 networks") and "Of 2 the logits of some point overflow" in said
    assert spread(runs["DDN_test_log_likelihood"]) == "-inf"
    assert (overflowed_last(runs.assign(DDN_test_error=math.nan))["DDN_test_log_likelihood"] == -math.inf).sum() == 2
    kept = losses("LDN", "LDN-95", [math.nan]).assign(**{"LDN-95_test_error": math.nan})
    assert overflowed_last(kept)["LDN-95_test_log_likelihood"].isna().all()  # there was no such network


def test_q_is_drawn_at_the_depth_of_the_claims():
    """Not at the deepest of LDN, where no DDN stands beside it."""
    key = {"data_set": "MNIST", "protocol": "fair", "precision": "float32", "epochs_limit": 5, "seed": 0}
    runs, depths = [], []
    for kind, scan, deepest in (("LDN", "max_depth", 4), ("LDN", "max_depth", 2), ("DDN", "deterministic_depth", 2)):
        own = key | {"scan": f"scan_{scan}_images", "kind": kind, "max_depth": deepest, "pruned_depth": 1}
        runs.append(own | {"LDN-95_test_log_likelihood": -0.1, "DDN_test_log_likelihood": -0.2})
        depths += [own | {"depth": depth, "q": 1 / (deepest + 1), "prior": 0.3} for depth in range(deepest + 1)]
    figure = images.image_posteriors({"runs": pd.DataFrame(runs), "depths": pd.DataFrame(depths)})
    assert figure is not None and figure.axes[0].get_title() == "MNIST, D = 2"
    assert len(figure.axes[0].patches) == 2 + 1 + 1  # bars and the band
    plt.close(figure)


def test_bins_of_few_points_are_left_out_of_a_reliability_diagram():
    bins = pd.DataFrame({"variant": "DDN", "bin": [3, 8, 14] * 2, "count": [1, 999, 4000] * 2, "seed": [0, 1] * 3})
    bins = bins.assign(confidence=bins["bin"] / 15, accuracy=[0, 0.5, 0.9, 0, 0.7, 0.9])
    figure = reliability_diagrams(bins, pd.DataFrame({"DDN_test_ece": [0.01, 0.03]}), least=0)
    line = figure.axes[0].lines[1]
    assert line.get_xdata() == pytest.approx([8 / 15, 14 / 15]) and line.get_ydata() == pytest.approx([0.6, 0.9])
    assert figure.axes[0].get_legend_handles_labels()[1] == ["DDN, ECE 2.00 ± 1.41 %"]
    assert all(len(ax.lines) == 1 for ax in figure.axes[1:])
    plt.close(figure)


@pytest.mark.parametrize(("low", "high"), [(9.2, 11), (8, 30), (0.02, 3), (0.001, 90)])
def test_a_logarithmic_axis_has_ticks_to_read_it_by(low, high):
    figure, ax = plt.subplots()
    ax.plot([0, 1], [low, high])
    ax.set_yscale("log")
    log_ticks(ax.yaxis, (1, 2, 5))
    assert sum(low <= tick <= high for tick in ax.get_yticks()) >= 3
    plt.close(figure)


def test_curves_of_images_are_means_of_repeats_that_were_logged_at_epochs_of_their_own():
    key = {"data_set": "MNIST", "protocol": "fair", "precision": "float32", "epochs_limit": 5}
    runs, curves = [], []
    for kind, scan in (("LDN", "max_depth"), ("DDN", "deterministic_depth")):
        for depth, seed in itertools.product((0, 2), (0, 1)):
            own = key | {"scan": f"scan_{scan}_images", "kind": kind, "max_depth": depth, "seed": seed}
            runs.append(own | {"best_epoch": 3 + 2 * seed})
            for epoch in (1, 3, 5) if seed else (1, 2, 4):
                error = epoch / 100 + seed / 100 + (0.02 if kind == "DDN" else 0)
                curves.append(own | {"epoch": epoch, "valid_error": error, "valid_log_likelihood": -error})
    tables = {"runs": pd.DataFrame(runs), "curves": pd.DataFrame(curves)}
    figure = images.image_curves(tables)
    assert figure is not None
    error, likelihood = figure.axes
    lines = {line.get_label(): line for line in error.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["DDN, D = 2", "LDN, D = 2"]
    assert lines["LDN, D = 2"].get_xdata().tolist() == [1, 2, 3, 4]  # where both are
    assert lines["LDN, D = 2"].get_ydata() == pytest.approx([1.5, 2.5, 3.5, 4.5])  # percent
    assert lines["DDN, D = 2"].get_ydata() == pytest.approx([3.5, 4.5, 5.5, 6.5])
    assert likelihood.lines[0].get_ydata() == pytest.approx([0.035, 0.045, 0.055, 0.065])
    kept = [line for line in error.lines if line.get_label().startswith("_")]
    assert [line.get_xdata().tolist() for line in kept] == [[3, 5], [3, 5]]
    assert kept[1].get_ydata() == pytest.approx([3, 6])  # each its own
    assert images.image_curves({name: table[table["max_depth"] == 0] for name, table in tables.items()}) is None
    plt.close(figure)
