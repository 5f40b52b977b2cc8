"""Searches of the recurrent cell, from the command line to finished run folders, and the batches that they see."""

import contextlib

import pytest
import torch
from conftest import assert_same, contents, load, scan_script, stop_after

from depthsearch.cells import genotype, recurrent_network
from depthsearch.cells.genotype import RecurrentGenotype
from depthsearch.learning.text_parts import TextParts
from depthsearch.running import folders as runs
from depthsearch.running import workers
from depthsearch.studies.recurrent_cells import RecurrentCell
from depthsearch.studies.saved import study_of

pytestmark = pytest.mark.usefixtures("no_gpu")

ONE = ("0", "--quick", "--repeats", 1)


def scan(*options):
    return scan_script(*map(str, options), name="recurrent_cells")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The runs of --quick, a repeat each."""
    results = tmp_path_factory.mktemp("results")
    out = scan(*ONE, "--results", results)
    assert out.returncode == 0, out.stderr
    return results


def test_every_strategy_ends_with_a_genotype_and_says_how_its_weights_moved(results):
    kinds = set()
    for folder in runs.run_folders(results):
        run = runs.read_run(folder)
        assert run is not None
        config, summary = run
        study = study_of(config["configuration"])
        assert isinstance(study, RecurrentCell) and study.configuration() == config["configuration"]
        kinds.add(study.kind)
        found = genotype(str(folder / "genotype.json"), RecurrentGenotype)
        assert found.to_json() == summary["architecture"] == summary["history"][-1]["architecture"]
        assert len(found.recurrent) == 8 and found.concat == tuple(range(1, 9))
        start, end = (summary["entropy"][when]["recurrent"] for when in ("start", "end"))
        assert start == pytest.approx(torch.tensor(5.0).log().item(), abs=1e-3) and end < start
        assert end == pytest.approx(summary["history"][-1]["entropy_recurrent"])
        assert summary["changes"] == sum(row["changed_recurrent"] for row in summary["history"]) > 0
        trajectory = torch.tensor(summary["trajectory"]["recurrent"])
        assert trajectory.shape == (3, 36, 5) and trajectory[-1].abs().max() > 0.01
        # A word passes 36 edges of 4 functions; an epoch reads both parts, the second order 1 + 4 times one.
        assert summary["operation_evaluations"] == (5 if "2nd" in study.kind else 2) * 2 * 600 * 36 * 4
        recurrent_network(found, 50, 8)
    assert kinds == {"DARTS", "DARTS 2nd order", "DrNAS"}


@pytest.mark.parametrize("kind", ["DARTS 2nd order", "DrNAS"])
def test_a_stopped_search_goes_on_as_if_it_never_was(kind, results, tmp_path, monkeypatch):
    options = (*ONE, "--strategies", kind, "--results", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_stopping", stop_after(1))
        out = scan(*options)
    assert out.returncode == 130 and "To go on: python scan_recurrent_cells.py" in out.stderr
    (kept,) = tmp_path.rglob("checkpoint.pt")
    assert torch.load(kept, weights_only=True)["epoch"] == 1
    assert scan(*options).returncode == 0
    (folder,) = ours = contents(tmp_path)
    assert_same(ours, {folder: contents(results)[folder]})


def test_a_genotype_is_in_the_run_folder_while_a_search_goes_on(tmp_path, monkeypatch):
    seen = []

    @contextlib.contextmanager
    def watching():
        yield lambda: seen.append([genotype(str(path)) for path in tmp_path.rglob("genotype.json")])  # goes on

    monkeypatch.setattr(workers, "_stopping", watching)
    out = scan(*ONE, "--epochs", 2, "--strategies", "DARTS", "--checkpoint-seconds", 0, "--results", tmp_path)
    assert out.returncode == 0 and [len(genotypes) for genotypes in seen[:3]] == [0, 0, 1]


# Defaults are the paper's.


def test_the_papers_settings_are_the_default():
    for study in load("recurrent_cells").GRID:
        said = study.configuration()
        assert (said["data_set"], said["width"], said["batch_size"], said["bptt"]) == ("PTB", 300, 256, 35)
        assert said["dropouts"] == {"dropout": 0.75, "dropouth": 0.25, "dropoutx": 0.75, "dropouti": 0.2, "dropoute": 0}
        training, architect = said["training"], said["architect"]
        assert (training["epochs"], training["learning_rate"], training["final"]) == (50, 20, 20)
        assert (training["clip"], training["weight_decay"], training["momentum"]) == (0.25, 5e-7, 0)
        assert (architect["learning_rate"], architect["betas"], architect["weight_decay"]) == (3e-3, [0.9, 0.999], 1e-3)
        assert said["temporal"] == 1e-3 and architect["order"] == (2 if "2nd" in study.kind else 1)


def test_rates_are_compared_on_a_seed_of_their_own_at_equal_length():
    reduced = {**RecurrentCell.REDUCED, "n_train": RecurrentCell.REDUCED["n_train"] // 2, "first_seed": 100}
    kinds, rates = ("DARTS", "DARTS 2nd order", "DrNAS"), (0.03, 0.1, 0.3)
    expected = [RecurrentCell(**{**reduced, "kind": kind, "alpha_rate": rate}) for kind in kinds for rate in rates]
    assert expected == load("recurrent_rates").GRID


# Batches.


class Counting(torch.nn.Module):
    """A space whose hidden state is the number of words that it has read."""

    def initial_hidden(self, batch_size):
        return torch.zeros(1, batch_size, 1)

    def forward(self, x, hidden, weights):
        self.seen = x, hidden
        return torch.zeros(*x.shape, 100).log_softmax(-1), hidden + len(x), x.unsqueeze(-1).double()


def test_both_parts_are_read_on_and_the_shorter_one_comes_round_again():
    # Rows of 20 and of 8 words, two side by side.
    space, task = Counting(), TextParts(torch.arange(40), torch.arange(16), batch_size=2, bptt=4, temporal=0.5)
    place, valid_place = 0, 0
    for pair in task.pairs(space, torch.Generator().manual_seed(0)):
        for _ in range(3):  # however often a pair is looked at
            loss = pair.train({})
            x, hidden = space.seen
            assert x[:, 0].tolist() == list(range(place, place + len(x))) and hidden.unique().tolist() == [place]
            # Of words that count on, the square of what they change by is 1.
            assert float(loss) == pytest.approx(torch.tensor(100.0).log().item() + 0.5 * (len(x) > 1))
        assert pair.scale in (1.0, 0.5) and len(x) <= 4 * pair.scale
        place += len(x)
        assert float(pair.valid({})) == pytest.approx(torch.tensor(100.0).log().item())  # no penalty there
        x, hidden = space.seen
        assert x[:, 0].tolist() == list(range(valid_place, valid_place + len(x)))
        assert hidden.unique().tolist() == [valid_place]
        valid_place = 0 if valid_place else 4
    assert place in (18, 19)


def test_a_search_penalises_the_weights_as_its_configuration_says(tmp_path):
    study = RecurrentCell(data_set="generated", batch_size=4, bptt=5)
    task = study.task(0, tmp_path)
    assert task.temporal == study.configuration()["temporal"] == 1e-3


# Bad input.

NAMES = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        ((), (), "ptb.train.txt is not in"),
        (("a b\n" * 99, "", "a\n"), (), "ptb.valid.txt is empty"),
        (("a b\n" * 99, "a c\n" * 99, "a\n"), (), "ptb.valid.txt is of another vocabulary than ptb.train.txt: that"),
        (("a b\n" * 99, "a b\n", "a\n"), (), "a text of 3 words is too short for 20 side by side"),
        (("a b\n" * 99, "a b\n" * 99, "a\n"), ("--n-train", 298), "PTB has 297 words to train on, 298 are wanted"),
        ((), ("--batch-size", 1), "needs a batch size of 2 or more"),
        ((), ("--width", 0), "width must be 1 or more, got 0"),
        ((), ("--dropout", 1), "dropout is a probability from 0 to below 1, got 1"),
        ((), ("--data-set", "text8"), "no data set 'text8' for cells; there are PTB, WikiText-2, generated"),
        ((), ("--strategies", "DrNAS progressive"), "no strategy 'DrNAS progressive'; there are"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_trained(texts, options, said, tmp_path):
    for name, text in zip(NAMES, texts, strict=False):
        (tmp_path / name).write_text(text)
    asked = ("--data-set", "PTB", "--n-train", 100, *options, "--data", tmp_path, "--results", tmp_path / "results")
    out = scan(*ONE, *asked)
    assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and said in out.stderr, out.stderr
    assert not (tmp_path / "results").exists()
