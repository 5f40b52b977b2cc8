"""The fair protocol on spirals: what is held out, what selects, and that its runs stay apart from the paper's."""

from dataclasses import replace

import pytest
import torch
from conftest import complete, scan_script

from depthsearch.reporting.judging.claims import spiral_claims
from depthsearch.reporting.pages.results import results_page
from depthsearch.reporting.parts import cohorts, ldn_and_ddn
from depthsearch.reporting.tables.depth_scans import read_tables
from depthsearch.reporting.tables.schema import FAIR
from depthsearch.studies.choices import ImageChoice, SpiralChoice
from depthsearch.studies.images import Images
from depthsearch.studies.spirals import Spirals
from depthsearch.studies.variations import Variation


def test_a_quarter_of_the_training_points_is_held_out_and_selects():
    paper, fair = Spirals(), Spirals(protocol="fair")
    whole, split = paper.split(3), fair.split(3)
    assert whole.x_valid is None and paper.selection.every == 1
    assert (len(split.y_train), len(split.y_valid)) == (150, 50) and torch.equal(split.x_test, whole.x_test)
    points = torch.cat([split.x_train, split.x_valid])
    assert torch.equal(points[points[:, 0].argsort()], whole.x_train[whole.x_train[:, 0].argsort()])
    assert fair.selection == SpiralChoice().selection  # one rule, here and in the comparison of strategies


def test_a_configuration_of_the_papers_protocol_is_what_it_was():
    assert "protocol" not in Spirals().configuration() and "fair" not in Spirals().title()
    asked = Spirals(protocol="fair").configuration()
    assert asked["protocol"] == "fair" and Spirals.from_configuration(asked).protocol == "fair"
    assert Spirals.from_configuration(Spirals().configuration()).protocol == "paper"
    assert "leave --protocol out" in (Variation(protocol="fair").problem() or "")


def test_batches_are_even_where_points_are_held_out_and_there_are_several():
    """Elsewhere they are the paper's, and say nothing of it, so that what was run before is the same run."""
    several = Spirals(protocol="fair", n=7000)
    assert len(several.split(0).y_train) == 525 > several.training.batch_size
    assert several.configuration()["training"]["even_batches"] is True
    assert Spirals.from_configuration(several.configuration()) == replace(several, epochs=several.training.epochs)
    for study in (
        Spirals(protocol="fair", n=6500),
        Spirals(protocol="fair", n=6830),
        Spirals(n=7000),
        SpiralChoice(),
        Images(),
    ):
        assert "even_batches" not in study.configuration()["training"]
    assert ImageChoice().configuration()["training"]["even_batches"] is True


@pytest.mark.slow
def test_fair_runs_are_judged_beside_the_papers(tmp_path):
    for name in ("max_depth_spirals", "deterministic_depth_spirals"):
        for protocol in ("paper", "fair"):
            options = ("--quick", "--epochs", 20, "--depths", 5, 20, "--repeats", 2, "--protocol", protocol)
            out = scan_script("0", *options, "--results", tmp_path, name=name)
            assert out.returncode == 0, out.stderr
    found = read_tables(tmp_path)
    (paper, papers_ddn), (fair, fair_ddn) = (ldn_and_ddn(found["runs"], f"spirals{which}") for which in ("", FAIR))
    assert [len(rows) for rows in (paper, papers_ddn, fair, fair_ddn)] == [4, 4, 4, 4]
    assert set(fair["protocol"]) == {"fair"} and paper["protocol"].isna().all() and not cohorts(found)
    judged = {which: spiral_claims(found, which)["quantity"].str.cat() for which in ("", FAIR)}
    for which, points in ((FAIR, "validation"), ("", "test")):
        assert f"best on {points} points of other repeats" in judged[which]
    page = results_page(found, complete(found), [], "", "")
    assert "The same with a quarter of the training points held out" in page and f"scan_max_depth_spirals{FAIR}" in page
