"""From a search of the recurrent cell to a trained, tested and drawn one, on a generated text and on small files."""

import json
import math
from collections import OrderedDict

import pytest
import torch
from conftest import assert_same, contents, script, stop_after

from depthsearch.cells import GENOTYPES, genotype, random_recurrent_genotype, recurrent_network
from depthsearch.cells.genotype import RecurrentGenotype
from depthsearch.reporting.tables.depth_scans import collect
from depthsearch.running import folders as runs
from depthsearch.running import workers
from depthsearch.studies.genotypes import PRESETS
from depthsearch.studies.recurrent_genotypes import TrainRecurrent
from depthsearch.studies.saved import study_of
from depthsearch.studies.texts import text_part

pytestmark = pytest.mark.usefixtures("no_gpu")

SMALL = ("--data-set", "generated", "--n-train", 1000, "--learning-rate", 5, "--epochs", 3)
GOOD = ("a b c d e\n" * 40, "b a d c\n" * 30, "e d c b a\n" * 9)


def train(*options):
    return script("train_genotype", 0, *options)


def one_line(out, said):
    assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and said in out.stderr, out.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run of a cell that was searched before."""
    results = tmp_path_factory.mktemp("results")
    asked = ("--quick", "--strategies", "DARTS", "--repeats", 1, "--results", results / "search")
    assert script("scan_recurrent_cells", 0, *asked).returncode == 0
    (found,) = runs.run_folders(results / "search")
    out = train(*SMALL, "--genotype", found, "--repeats", 1, "--results", results)
    assert out.returncode == 0, out.stderr
    (folder,) = runs.run_folders(results)
    assert runs.read_run(folder)[0]["configuration"]["genotype"] == genotype(str(found)).to_json()
    out = script("draw_genotype", found, "--output", results / "cell.png", "--engine", "matplotlib")
    assert out.returncode == 0 and (results / "cell.png").stat().st_size > 1000
    return folder


def test_one_saved_network_tested_twice_gives_one_number(run):
    config, summary = runs.read_run(run)
    study = study_of(config["configuration"])
    assert isinstance(study, TrainRecurrent) and study.configuration() == config["configuration"]
    assert [row["epoch"] for row in summary["history"]] == [1, 2, 3]
    best = min(row["valid_loss"] for row in summary["history"])
    assert summary["valid"]["log_likelihood"] == -best and summary["parameters"] == 50 * 9 + 20 * 64
    outs = [script("test_network", run) for _ in range(2)]
    assert outs[0].returncode == 0 and "the numbers that were saved, bit for bit" in outs[0].stdout, outs[0].stderr
    assert outs[0].stdout == outs[1].stdout and f"perplexity {summary['test']['perplexity']:.2f}" in outs[0].stdout
    assert all(table.empty for table in collect(run.parents[4]).values())  # those are about depth


def test_perplexity_is_that_of_every_word_after_the_first_read_in_one_row(run):
    config, summary = runs.read_run(run)
    text = text_part("generated", run, 1000)
    network = study_of(config["configuration"]).network(text.n_words)
    runs.load_weights(run, network)
    with torch.no_grad():
        log_probs, _, _ = network.eval()(text.test[:-1].unsqueeze(1), network.initial_hidden(1))
    nats = -log_probs[range(len(text.test) - 1), 0, text.test[1:]].double().mean().item()
    assert summary["test"]["log_likelihood"] == pytest.approx(-nats, abs=1e-5)
    assert summary["test"]["perplexity"] == pytest.approx(math.exp(nats), rel=1e-5)


def test_a_stopped_run_goes_on_as_if_it_never_was(run, tmp_path, monkeypatch):
    cell = runs.read_run(run)[0]["configuration"]["genotype"]
    options = (*SMALL, "--genotype", cell, "--repeats", 1, "--results", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_stopping", stop_after(2))
        out = train(*options)
    assert out.returncode == 130 and "To go on: python train_genotype.py" in out.stderr
    (kept,) = tmp_path.rglob("checkpoint.pt")
    assert torch.load(kept, weights_only=True)["epoch"] == 2
    assert train(*options).returncode == 0
    ours = contents(tmp_path)
    theirs = {folder: found for folder, found in contents(run.parents[4]).items() if folder in ours}
    assert_same(ours, theirs)


def test_steps_are_averaged_and_what_the_best_mean_is_tested(tmp_path):
    out = train(*SMALL, "--epochs", 6, "--learning-rate", 40, "--patience", 0, "--repeats", 1, "--results", tmp_path)
    assert out.returncode == 0, out.stderr
    (folder,) = runs.run_folders(tmp_path)
    history, summary = (lambda s: (s["history"], s))(json.loads((folder / "summary.json").read_text()))
    losses = [row["valid_loss"] for row in history]
    first = next(k for k in range(1, 6) if losses[k] > min(losses[:k]))
    assert [row["averaged"] for row in history] == [k > first for k in range(6)]
    assert summary["valid"]["log_likelihood"] == -min(losses)


def test_controls_are_of_equal_size_and_equal_training(tmp_path):
    asked = ("--genotype", "random:0", "random:1", "LSTM", "ENAS_RNN", "--width", 12, "--epochs", 1)
    out = train(*SMALL, *asked, "--first-seed", 100, "--repeats", 1, "--results", tmp_path)
    assert out.returncode == 0, out.stderr
    folders = list(runs.run_folders(tmp_path))
    found = {c["configuration"]["genotype"]: (c, s) for c, s in map(runs.read_run, folders)}
    assert set(found) == {"LSTM", GENOTYPES["ENAS_RNN"].to_json()} | {
        random_recurrent_genotype(seed).to_json() for seed in (0, 1)
    }
    assert len({s["test"]["perplexity"] for _, s in found.values()}) == 4
    assert len({json.dumps([c["configuration"][k] for k in ("training", "dropouts")]) for c, _ in found.values()}) == 1
    equal = 50 * 13 + 20 * 12**2
    for name, more in (("LSTM", 50 + 16 * 12 + 12), (GENOTYPES["ENAS_RNN"].to_json(), 50 + 52 * 12 + 26)):
        assert abs(found[name][1]["parameters"] - equal) <= more / 2  # what a width more would add
    assert found[random_recurrent_genotype(0).to_json()][1]["parameters"] == equal
    for folder in folders:
        out = script("test_network", folder)
        assert out.returncode == 0 and "bit for bit" in out.stdout


def test_repeats_begin_with_the_first_seed(tmp_path):
    for name, seeds in (("one", ("--repeats", 2)), ("other", ("--first-seed", 1, "--repeats", 1))):
        assert train(*SMALL, "--epochs", 1, *seeds, "--results", tmp_path / name).returncode == 0
    (_, second), (third,) = (list(contents(tmp_path / name).values()) for name in ("one", "other"))
    assert second[0] == third[0] and all(torch.equal(second[1][name], third[1][name]) for name in second[1])


def test_the_presets_are_the_papers():
    ptb, wikitext = PRESETS["PTB"], PRESETS["WikiText-2"]
    assert (ptb.genotype, ptb.width) == (GENOTYPES["DARTS_V2_RNN"].to_json(), 850)
    assert vars(ptb.dropouts) == {"dropout": 0.75, "dropouth": 0.25, "dropoutx": 0.75, "dropouti": 0.2, "dropoute": 0.1}
    how = ptb.recipe
    assert (how.epochs, how.batch_size, how.bptt, how.learning_rate, how.clip) == (3600, 64, 35, 20, 0.25)
    assert (how.weight_decay, how.temporal, how.activation, how.patience, how.eval_batch_size) == (8e-7, 1e-3, 0, 5, 10)
    assert (wikitext.data_set, wikitext.width, wikitext.dropouts.dropouth) == ("WikiText-2", 700, 0.15)
    assert wikitext.recipe.weight_decay == 5e-7 and wikitext.dropouts.dropouti == 0.2
    with torch.device("meta"):
        assert ptb.network(10_000).n_parameters == 22_960_000
        assert wikitext.network(33_278).n_parameters == 33_127_878


def test_a_text_has_the_preset_of_its_name_and_options_change_it(tmp_path):
    for data_set, width in (("PTB", 850), ("WikiText-2", 700)):
        out = train("--data-set", data_set, "--dry-run", "--results", tmp_path)
        assert out.returncode == 0 and f"{data_set}/DARTS_V2_RNN_width{width}_epochs3600-" in out.stdout
    asked = ("--width", 6, "--dropoute", 0.3, "--dropouth", 0.2, "--activation", 0.5, "--n-words", 20, "--bptt", 7)
    out = train(*SMALL, *asked, "--epochs", 1, "--clip", 0.5, "--repeats", 1, "--results", tmp_path)
    assert out.returncode == 0, out.stderr
    (folder,) = runs.run_folders(tmp_path)
    configuration = runs.read_run(folder)[0]["configuration"]
    assert (configuration["width"], configuration["n_words"], configuration["n_train"]) == (6, 20, 1000)
    assert configuration["dropouts"] == {"dropout": 0.1, "dropouth": 0.2, "dropoutx": 0.1, "dropouti": 0.1} | {
        "dropoute": 0.3
    }
    training = configuration["training"]
    assert (training["activation"], training["bptt"], training["clip"], training["learning_rate"]) == (0.5, 7, 0.5, 5)


def test_a_network_that_diverges_is_kept_as_such(tmp_path):
    out = train(*SMALL, "--n-train", 200, "--learning-rate", 1e38, "--repeats", 1, "--results", tmp_path)
    assert out.returncode == 0 and "1 diverged" in out.stderr + out.stdout
    (folder,) = runs.run_folders(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["diverged_epoch"] == len(summary["history"]) + 1 and "test" not in summary
    one_line(script("test_network", folder), "diverged")


# Somebody else's networks.


def test_the_state_of_somebody_elses_network(run, tmp_path):
    state = torch.load(run / "weights.pt", weights_only=True)["network"]
    tied = state["embedding"]
    theirs = OrderedDict([("encoder.weight", tied), ("rnns.0._W0", state["cell.first"])])
    theirs |= {f"rnns.0._Ws.{i}": state[f"cell.nodes.{i}"] for i in range(8)}
    theirs |= {"decoder.weight": tied, "decoder.bias": state["decoder.bias"]}
    torch.save(theirs, tmp_path / "theirs.pt")
    expected = script("test_network", run).stdout.splitlines()[:2]
    cell = runs.read_run(run)[0]["configuration"]["genotype"]
    for what in ((run,), (cell, "--data-set", "generated", "--n-train", 1000)):
        out = script("test_network", *what, "--checkpoint", tmp_path / "theirs.pt")
        assert out.returncode == 0 and out.stdout.splitlines()[:2] == expected, out.stderr
    torch.save(recurrent_network("ENAS_RNN", 50, 8).state_dict(), tmp_path / "other.pt")
    one_line(script("test_network", run, "--checkpoint", tmp_path / "other.pt"), "is of another genotype or size")


# Bad input.


def write(folder, texts):
    for name, text in zip(("train", "valid", "test"), texts, strict=False):
        (folder / f"ptb.{name}.txt").write_text(text)


PTB = ("--data-set", "PTB", "--width", 4, "--batch-size", 5, "--eval-batch-size", 5, "--epochs", 1)


def test_a_network_is_tested_on_a_text_of_its_own_vocabulary_only(tmp_path):
    write(tmp_path, GOOD)
    files = ("--data", tmp_path)
    assert train(*PTB, *files, "--repeats", 1, "--results", tmp_path / "results").returncode == 0
    (folder,) = runs.run_folders(tmp_path / "results")
    assert script("test_network", folder, *files).returncode == 0
    text_part.cache_clear()
    for texts, said in (
        ((GOOD[0].replace("a b", "b a"), *GOOD[1:]), "trained with another vocabulary"),
        ((GOOD[0], GOOD[1], "e f\n"), "ptb.test.txt is of another vocabulary than ptb.train.txt: that lacks 'f'"),
        ((GOOD[0], GOOD[1], ""), "ptb.test.txt is empty"),
    ):
        write(tmp_path, texts)
        again = tmp_path / str(len(said))  # what a process has read it keeps
        again.mkdir()
        write(again, texts)
        one_line(script("test_network", folder, "--data", again), said)
    one_line(script("test_network", folder, "--data", tmp_path / "results"), "ptb.train.txt is not in")


@pytest.mark.parametrize(
    ("texts", "arguments", "said"),
    [
        ((), (), "ptb.train.txt is not in"),
        (("", *GOOD[1:]), (), "ptb.train.txt is empty"),
        ((GOOD[0], "a f\n", GOOD[2]), (), "ptb.valid.txt is of another vocabulary than ptb.train.txt: that lacks 'f'"),
        (GOOD, ("--batch-size", 100), "a text of 240 words is too short for 100 side by side"),
        (GOOD, ("--n-train", 241), "PTB has 240 words to train on, 241 are wanted"),
        (GOOD, ("--n-words", 7), "a vocabulary is cut to 2 to 6 words, not to 7"),
        ((), ("--genotype", "DARTS_V2"), "this is the genotype of a convolutional cell; a recurrent cell is needed"),
        ((), ("--genotype", "nowhere"), "no genotype 'nowhere'"),
        ((), ("--channels", 4), "--channels is of no account for PTB"),
        ((), ("--cutout",), "--cutout is of no account for PTB"),
        ((), ("--precision", "bfloat16"), "--precision is of no account for PTB"),
        ((), ("--dropouth", 1), "dropouth is the probability of dropping"),
        ((), ("--learning-rate", 0), "learning_rate must be above 0"),
        ((), ("--width", 0), "the width must be 1 or more"),
        ((), ("--n-train", 0), "must be 1 or more, got 0"),
        ((), ("--epochs", 0), "epochs must be 1 or more, got 0"),
        ((), ("--data-set", "CIFAR-10", "--preset", "PTB"), "no text 'CIFAR-10'; there are PTB, WikiText-2, generated"),
        ((), ("--data-set", "digits", "--width", 3), "--width is of no account for digits"),
    ],
)
def test_bad_input_is_one_line_and_status_2(texts, arguments, said, tmp_path):
    write(tmp_path, texts)
    out = train(*PTB, *arguments, "--data", tmp_path, "--results", tmp_path / "results")
    one_line(out, said)
    assert not (tmp_path / "results").exists()


def test_a_recurrent_cell_is_none_for_images(tmp_path):
    (tmp_path / "genotype.json").write_text(GENOTYPES["ENAS_RNN"].to_json())
    for cell in (tmp_path, "LSTM"):
        out = train("--quick", "--genotype", cell, "--results", tmp_path / "results")
        assert out.returncode == 2 and len(out.stderr.splitlines()) == 1, out.stderr
    assert genotype(str(tmp_path), RecurrentGenotype)
