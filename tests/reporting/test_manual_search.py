"""The best deterministic depth: who chooses it for whom, against a plain loop over all ways to halve the repeats."""

from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from test_claims import made_up_run

from depthsearch.reporting.intervals import interval_of, jackknife
from depthsearch.reporting.judging.claims import image_claims
from depthsearch.reporting.judging.manual_search import DRAWN, MOST, ManualSearch, _halvings, chosen_on, is_search


def runs_of(errors, valid=None, protocol="fair"):
    """DDN rows from {depth: errors of repeats 0, 1, ...}; validation errors are these unless given."""
    valid = errors if valid is None else valid
    rows = [
        made_up_run("DDN", depth, seed, error, protocol=protocol, valid=valid[depth][seed])
        for depth, of_repeats in errors.items()
        for seed, error in enumerate(of_repeats)
    ]
    return pd.DataFrame(rows)


def drawn(n, depths=(5, 10, 20), seed=0):
    rng = np.random.default_rng(seed)
    return tuple({depth: rng.normal(0.1, 0.02, n).tolist() for depth in depths} for _ in range(2))


def by_hand(choosing, judged, repeats):
    """{repeat: mean over halvings}: in each the half that a repeat is not in chooses."""
    found = {r: [] for r in repeats}
    everyone = frozenset(repeats)
    halves = {
        frozenset((frozenset(half), everyone - frozenset(half))) for half in combinations(repeats, len(repeats) // 2)
    }
    for halving in halves:
        for half in halving:
            best = min(choosing, key=lambda d: np.mean([choosing[d][r] for r in half]))
            for r in everyone - half:
                found[r].append(judged[best][r])
    return {r: np.mean(values) for r, values in found.items()}


def left_out(choosing, judged, n, without):
    """The same of all but one repeat, in the halvings of all."""
    found = {r: [] for r in range(n) if r != without}
    for first in combinations(range(n), n // 2):
        if n % 2 == 0 and 0 not in first:
            continue
        first, second = ({*half} - {without} for half in (first, {*range(n)} - {*first}))
        for half, other in ((first, second), (second, first)):
            if not half or not other:
                continue
            best = min(choosing, key=lambda d: np.mean([choosing[d][r] for r in half]))
            for r in other:
                found[r].append(judged[best][r])
    return {r: np.mean(values) for r, values in found.items()}


@pytest.mark.parametrize("n", [2, 4, 5, 6, 7])
def test_each_half_chooses_for_the_other_in_all_ways(n):
    valid, errors = drawn(n)
    found = ManualSearch(runs_of(errors, valid), "error")
    expected = by_hand(valid, errors, range(n))
    assert found.values("DDN_test_error").to_dict() == pytest.approx(expected)
    assert found.runs().set_index("seed")["DDN_test_error"].to_dict() == pytest.approx(expected)
    assert (found.shares.sum(axis=1) - 1).abs().max() < 1e-12
    likely = ManualSearch(runs_of(errors, valid), "log_likelihood")  # which is minus the error here
    assert likely.values("DDN_test_log_likelihood").to_dict() == pytest.approx({r: -v for r, v in expected.items()})


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_the_interval_leaves_out_each_repeat_its_choice_too(n):
    valid, errors = drawn(n, seed=3)
    ours = pd.Series(np.random.default_rng(9).normal(0.1, 0.01, n))
    gap = ManualSearch(runs_of(errors, valid), "error").gap(ours, "DDN_test_error")
    own = by_hand(valid, errors, range(n))
    expected = jackknife(
        np.mean([ours[r] - own[r] for r in range(n)]),
        [np.mean([ours[r] - v for r, v in left_out(valid, errors, n, out).items()]) for out in range(n)],
    )
    assert gap == pytest.approx(expected) and gap.n == n


def test_the_jackknife_of_a_mean_is_students_interval():
    values = pd.Series([1.0, 2.0, 4.0, 4.5])
    assert jackknife(values.mean(), [values.drop(i).mean() for i in values.index]) == pytest.approx(interval_of(values))


def test_intervals_cover_what_they_should():
    """Repeats that are all alike but for luck: what is subtracted is 0 in the mean, as ours is."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(60):
        errors = dict(zip(range(5), rng.normal(size=(5, 6)).tolist(), strict=True))
        gap = ManualSearch(runs_of(errors, protocol="paper"), "error").gap(pd.Series(np.zeros(6)), "DDN_test_error")
        inside += gap.low <= 0 <= gap.high
    assert inside >= 54  # of 60


def test_the_order_of_the_repeats_is_of_no_account():
    valid, errors = drawn(6)
    order = [3, 0, 5, 1, 4, 2]
    turned = [{d: [of[d][r] for r in order] for d in of} for of in (errors, valid)]
    ours = pd.Series(np.random.default_rng(1).normal(0.1, 0.01, 6))
    gaps = [
        ManualSearch(runs_of(*of), "error").gap(mine, "DDN_test_error")
        for of, mine in (((errors, valid), ours), (turned, ours[order].reset_index(drop=True)))
    ]
    assert gaps[0] == pytest.approx(gaps[1])


@pytest.mark.parametrize(("protocol", "points"), [("paper", "test"), ("fair", "validation")])
def test_no_repeat_chooses_for_itself(protocol, points):
    """Depth 5 is best in repeats 0 and 1, depth 10 in 2 and 3, by as much. Of the three halvings one chooses what is
    worse for all; in the others the depths are equal, and the shallower is taken."""
    luck = {5: (0.10, 0.10, 0.14, 0.14), 10: (0.14, 0.14, 0.10, 0.10)}
    ddn = runs_of(luck, protocol=protocol)
    for metric in ("error", "log_likelihood"):
        best = ManualSearch(ddn, metric)
        assert best.shares[10].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 0])
        assert best.depth is None and best.depths() == "5 in 83 %, 10 in 17 %"
    ldn = pd.DataFrame([made_up_run("LDN", 10, r, 0.13 + 1e-5 * r, protocol=protocol) for r in range(4)])
    claims = image_claims({"runs": pd.concat([ldn, ddn])}).set_index("quantity")
    quantity = "test error, LDN-95 (D = 10) minus the DDN best on"
    row = claims.loc[f"{quantity} {points} points of other repeats (D = 5 in 83 %, 10 in 17 %)"]
    assert row["difference"].startswith("+0.335 [") and row["verdict"] == "undecided after 15 epochs"


def test_the_points_are_those_of_the_protocol():
    valid, errors = {5: [0.1] * 4, 10: [0.2] * 4}, {5: [0.4] * 4, 10: [0.3] * 4}
    assert ManualSearch(runs_of(errors, valid), "error").depth == 5
    assert ManualSearch(runs_of(errors, valid, "paper"), "error").depth == 10


@pytest.mark.parametrize("protocol", ["paper", "fair"])
def test_a_single_repeat_and_repeats_apart_choose_for_themselves(protocol):
    points = "validation" if protocol == "fair" else "test"
    single = runs_of({5: [0.1], 10: [0.2]}, protocol=protocol)
    found = ManualSearch(single, "error")
    assert found.depth == 5 and found.depths() == "5" and chosen_on(single) == f"{points} points"
    assert found.gap(pd.Series([0.3]), "DDN_test_error").mean == pytest.approx(0.2)
    assert is_search(single) == (protocol == "fair")
    apart = {5: range(4), 10: (4, 5, 6, 7), 8: (6, 7)}
    rows = [made_up_run("DDN", d, r, 0.2 - d / 100, protocol=protocol) for d, repeats in apart.items() for r in repeats]
    found = ManualSearch(pd.DataFrame(rows), "error")
    assert found.depth == 10 and list(found.shares.index) == [4, 5, 6, 7]
    assert is_search(pd.DataFrame(rows)) == (protocol == "fair")


def test_a_depth_with_fewer_repeats_is_not_sought_among():
    ddn = runs_of({5: [0.05, 0.05], 10: [0.1, 0.1]})
    assert ManualSearch(ddn, "error").depth == 5
    assert ManualSearch(ddn[1:], "error").depth == 10


def test_a_network_that_fails_is_not_chosen_and_is_worst_where_it_is_judged():
    errors = {5: [0.1, 0.1, 0.1, 0.1], 10: [0.2, 0.2, 0.2, 0.2]}
    ddn = runs_of(errors, protocol="paper")
    ddn.loc[(ddn["max_depth"] == 5) & (ddn["seed"] == 0), "DDN_test_log_likelihood"] = -np.inf
    found = ManualSearch(ddn, "log_likelihood")
    # For repeat 0 choose those that have not seen it fail; for the others in two of three halvings those that have.
    assert found.shares[5].tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])
    assert found.values("DDN_test_log_likelihood").tolist() == pytest.approx([-np.inf, *[-0.5 / 3] * 3])


def test_halvings():
    assert [len(_halvings(n)) for n in (2, 3, 4, 5, 16)] == [1, 3, 3, 10, comb(16, 8) // 2]
    for n in (4, 7, 18):
        halves = _halvings(n)
        assert halves.shape == (min(len(halves), MOST), n) and set(halves.sum(1)) == {n // 2}
    assert len(_halvings(18)) == DRAWN and np.array_equal(_halvings(18), _halvings(18))


def test_depths_in_words():
    found = ManualSearch(runs_of({5: [0.1, 0.1], 10: [0.2, 0.2]}), "error")
    depths = range(1, 5)
    found.shares = pd.DataFrame([[0.05, 0.6, 0.05, 0.3]] * 2, columns=depths)
    assert found.depths() == "2 in 60 %, 4 in 30 %, others in 10 %"
    found.shares = pd.DataFrame([[0.001, 0.6, 0, 0.399]] * 2, columns=depths)
    assert found.depths() == "2 in 60 %, 4 in 40 %"
