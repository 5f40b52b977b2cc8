"""From a genotype to a trained and tested network, on digits and on bytes of CIFAR's layout."""

import json
import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import script, stop_after

from depthsearch.cells import GENOTYPES, darts_network
from depthsearch.data.augment import Augmentation
from depthsearch.data.cifar import BINARY_SETS
from depthsearch.measuring.metrics import top_error
from depthsearch.reporting.tables.depth_scans import collect
from depthsearch.running import folders as runs
from depthsearch.running import workers
from depthsearch.running.study import Problem
from depthsearch.studies.genotypes import PRESETS, TrainGenotype
from depthsearch.studies.pictures import pictures_split
from depthsearch.studies.saved import study_of

pytestmark = pytest.mark.usefixtures("no_gpu")

SMALL = ("--quick", "--repeats", 1, "--epochs", 3, "--train-images", 400, "--test-images", 60, "--channels", 2)
SMALL += ("--learning-rate", 0.1, "--batch-size", 16)
COUNTS = Path(__file__).parents[1] / "parity" / "counts.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    results = tmp_path_factory.mktemp("results")
    out = script("train_genotype", 0, *SMALL, "--results", results)
    assert out.returncode == 0, out.stderr
    (folder,) = runs.run_folders(results)
    return folder


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text()) | {"seconds": 0}


@pytest.mark.slow
def test_a_tested_network_repeats_the_numbers_of_its_run(run):
    config, summary = runs.read_run(run)
    study = study_of(config["configuration"])
    assert isinstance(study, TrainGenotype) and study.configuration() == config["configuration"]
    assert run.parent.name.startswith("DARTS_V2_channels2_layers3_epochs3-") and run.parents[1].name == "digits"
    assert [row["epoch"] for row in summary["history"]] == [1, 2, 3]
    assert summary["history"][-1]["test_error"] == summary["test"]["error"] < 0.75
    assert set(summary["test"]) >= {"error", "log_likelihood", "brier", "ece"} and "top5_error" not in summary["test"]
    assert summary["seconds"]["training_seconds"] > 0
    network = study.network()
    runs.load_weights(run, network)
    x, y = (getattr(pictures_split("digits", run, n_test=60), name) for name in ("x_test", "y_test"))
    with torch.no_grad():
        log_probs = network.eval()(((x / 255) - 0.3053) / 0.3762).log_softmax(-1)
    wrong = (log_probs.argmax(-1) != y).double().mean().item()
    assert summary["test"]["error"] == pytest.approx(wrong, abs=1e-9)
    assert summary["test"]["log_likelihood"] == pytest.approx(log_probs[range(60), y].mean().item(), abs=1e-5)
    out = script("test_network", run)
    assert out.returncode == 0 and "the numbers that were saved, bit for bit" in out.stdout, out.stderr
    assert f"{100 * wrong:.2f} %" in out.stdout and f"{summary['parameters']:,} parameters" in out.stdout


@pytest.mark.slow
def test_numbers_that_are_not_those_of_the_weights_are_said(run, tmp_path):
    copy = tmp_path / "version_0"
    copy.mkdir()
    for name in ("config.json", "summary.json", "weights.pt"):
        (copy / name).write_bytes((run / name).read_bytes())
    summary = json.loads((copy / "summary.json").read_text())
    summary["test"]["error"] += 0.25
    (copy / "summary.json").write_text(json.dumps(summary))
    out = script("test_network", copy)
    assert out.returncode == 1 and "at most 0.25 from what was saved" in out.stdout
    summary["test"]["error"] = None  # what a summary has for a number that is none
    (copy / "summary.json").write_text(json.dumps(summary))
    out = script("test_network", copy)
    assert out.returncode == 1 and "at most inf from what was saved" in out.stdout
    (copy / "weights.pt").write_bytes((run / "weights.pt").read_bytes()[:3000])
    for problem in ("damaged", "missing"):
        out = script("test_network", copy)
        assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and "weights.pt cannot be read" in out.stderr
        if problem == "damaged":
            (copy / "weights.pt").unlink()


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_never_was(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_stopping", stop_after(2))
        out = script("train_genotype", 0, *SMALL, "--results", tmp_path)
    assert out.returncode == 130 and "To go on: python train_genotype.py" in out.stderr
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 1
    out = script("train_genotype", 0, *SMALL, "--results", tmp_path)
    assert out.returncode == 0, out.stderr
    (folder,) = runs.run_folders(tmp_path)
    assert folder.parent.name == run.parent.name and summary_of(folder) == summary_of(run)
    ours, theirs = (torch.load(f / "weights.pt", weights_only=True)["network"] for f in (folder, run))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_all_that_is_asked_for_is_in_the_configuration(tmp_path):
    path = tmp_path / "genotype.json"
    path.write_text(GENOTYPES["DARTS_V1"].to_json())
    asked = ("--genotype", tmp_path, "DARTS_V2", "--preset", "DrNAS", "--data-set", "digits", "--pixels", 32)
    asked += ("--channels", 2, "--layers", 3, "--auxiliary", "--cutout", "--batch-size", 50, "--drop-path", 0.1)
    asked += ("--train-images", 100, "--test-images", 20, "--hold-out", 0.2, "--label-smoothing", 0.1)
    options = ("--epochs", 2, "--eval-every", 2, "--repeats", 1, "--results", tmp_path / "results")
    out = script("train_genotype", 0, *asked, *options)
    assert out.returncode == 0, out.stderr
    one, two = map(runs.read_run, runs.run_folders(tmp_path / "results"))
    assert [c["configuration"]["genotype"] for c, _ in (one, two)] == [
        GENOTYPES[name].to_json() for name in ("DARTS_V1", "DARTS_V2")
    ]
    configuration, training = one[0]["configuration"], one[0]["configuration"]["training"]
    assert configuration["pool_norm"] and configuration["auxiliary"] and configuration["hold_out"] == 0.2
    assert configuration["augmentation"] == {"pad": 4, "flip": False, "cutout": 16}
    assert (training["epochs"], training["batch_size"], training["drop_path"]) == (2, 50, 0.1)
    assert (training["label_smoothing"], training["learning_rate"], training["schedule"]) == (0.1, 0.025, "cosine")
    assert set(one[1]["valid"]) == set(one[1]["test"])
    assert "valid_error" not in one[1]["history"][0] and "valid_error" in one[1]["history"][1]
    assert all(table.empty for table in collect(tmp_path / "results").values())  # those are about depth


def test_the_presets_are_the_papers():
    darts, drnas = PRESETS["DARTS"], PRESETS["DrNAS"]
    assert (darts.channels, darts.layers, darts.auxiliary, darts.cutout, darts.pool_norm) == (36, 20, True, 16, False)
    recipe = darts.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.momentum) == (600, 96, 0.025, 0.9)
    assert (recipe.weight_decay, recipe.clip, recipe.auxiliary_weight, recipe.drop_path) == (3e-4, 5.0, 0.4, 0.2)
    assert darts.augmentation == Augmentation(pad=4, flip=True, cutout=16)
    assert (drnas.recipe.batch_size, drnas.recipe.drop_path, drnas.pool_norm) == (64, 0.3, True)
    assert darts.network().n_parameters == 3_349_342
    assert darts.title() == "DARTS_V2_channels36_layers20_epochs600"


def write_cifar(folder, name, n=12):
    """Random files of the true layout, of fewer images."""
    known, rng = BINARY_SETS[name], np.random.default_rng(0)
    (folder / known.folder).mkdir(parents=True)
    for file in (*known.train, *known.test):
        records = rng.integers(0, 256, (n, known.labels + 3072), np.uint8)
        records[:, : known.labels] = rng.integers(0, known.n_classes, (n, known.labels))
        (folder / known.folder / file).write_bytes(records.tobytes())


def test_top_5_where_there_are_more_than_ten_classes(tmp_path, monkeypatch):
    import depthsearch.data.cifar as cifar

    known = BINARY_SETS["CIFAR-100"]
    short = {"CIFAR-100": known.__class__(**{**vars(known), "train_images": 12, "test_images": 12})}
    monkeypatch.setattr(cifar, "BINARY_SETS", short)
    write_cifar(tmp_path / "data", "CIFAR-100")
    asked = ("--data-set", "CIFAR-100", "--channels", 2, "--layers", 3, "--batch-size", 6, "--epochs", 1)
    out = script("train_genotype", 0, *asked, "--repeats", 1, "--data", tmp_path / "data", "--results", tmp_path)
    assert out.returncode == 0, out.stderr
    (folder,) = runs.run_folders(tmp_path)
    found = summary_of(folder)["test"]
    assert 0 <= found["top5_error"] <= found["error"] <= 1
    out = script("test_network", folder, "--data", tmp_path / "data")
    assert out.returncode == 0 and "top5_error" in out.stdout and "bit for bit" in out.stdout, out.stderr


def test_top_error_is_that_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(40, 12, generator=generator).log_softmax(-1)
    y = torch.randint(0, 12, (40,), generator=generator)
    missed = sum(
        int(t) not in sorted(range(12), key=lambda k: -row[k])[:5] for row, t in zip(log_probs, y, strict=True)
    )
    assert top_error(log_probs, y) == pytest.approx(missed / 40)
    assert top_error(log_probs, y, 1) == pytest.approx((log_probs.argmax(-1) != y).double().mean().item())


def test_pixels_are_averaged_or_repeated(tmp_path):
    whole = pictures_split("digits", tmp_path)
    large = pictures_split("digits", tmp_path, pixels=16, n_train=5)
    assert large.x_train.shape == (5, 1, 16, 16) and len(large.y_test) == 360
    assert all(large.x_train[2, 0, i, j] == whole.x_train[2, 0, i // 2, j // 2] for i in range(16) for j in range(16))
    small = pictures_split("digits", tmp_path, pixels=4)
    assert small.x_test[3, 0, 1, 2] == round(whole.x_test[3, 0, 2:4, 4:6].float().mean().item())


# Somebody else's networks.


def as_theirs(state):
    """Under other names, with no counters and in a checkpoint, as older code saved them."""
    tensors = [value for name, value in state.items() if not name.endswith("num_batches_tracked")]
    return {"epoch": 600, "state_dict": OrderedDict((f"module.layer{i}", t) for i, t in enumerate(tensors))}


def numbers(out):
    assert out.returncode == 0, out.stderr
    return out.stdout.splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize("head", [False, True])
def test_the_state_of_somebody_elses_network(run, head, tmp_path):
    state = torch.load(run / "weights.pt", weights_only=True)["network"]
    if head:  # which testing has no use for
        other = darts_network("DARTS_V2", 2, 3, in_channels=1, auxiliary=True)
        other.load_state_dict(state, strict=False)
        state = other.state_dict()
    torch.save(as_theirs(state), tmp_path / "theirs.pt")
    size = ("--data-set", "digits", "--channels", 2, "--layers", 3, "--cutout", 2, "--test-images", 60)
    expected = numbers(script("test_network", run))
    assert numbers(script("test_network", run, "--checkpoint", tmp_path / "theirs.pt")) == expected
    assert numbers(script("test_network", "DARTS_V2", *size, "--checkpoint", tmp_path / "theirs.pt", "--no-auxiliary"))
    torch.save(state, tmp_path / "ours.pt")
    assert numbers(script("test_network", run, "--checkpoint", tmp_path / "ours.pt")) == expected


class Theirs(torch.nn.Module):
    pass


@pytest.mark.slow
def test_bad_checkpoints_are_one_line_and_status_2(run, tmp_path):
    state = torch.load(run / "weights.pt", weights_only=True)["network"]
    names = list(state)
    kinds = {
        "pickled": (Theirs(), "holds a pickled object"),
        "short": (OrderedDict(list(state.items())[:-1]), "is of another genotype or size: it has"),
        "wide": (darts_network("DARTS_V2", 4, 3, in_channels=1).state_dict(), "its stem.whole.0.weight is 12x1x3x3"),
        "moved": ({n: state[m] for n, m in zip(names, names[::-1], strict=True)}, "is of another genotype or size"),
        "other": (darts_network("PC_DARTS_cifar", 2, 3, in_channels=1).state_dict(), "is of another genotype or size"),
        "numbers": ({"accuracy": 97.0}, "holds no state dict"),
        "tensor": (torch.zeros(3), "holds no state dict"),
    }
    for name, (content, said) in kinds.items():
        torch.save(content, tmp_path / name)
        out = script("test_network", run, "--checkpoint", tmp_path / name)
        assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and said in out.stderr, (name, out.stderr)
    (tmp_path / "text").write_text("no file of torch")
    (tmp_path / "half").write_bytes((tmp_path / "short").read_bytes()[:3000])
    (tmp_path / "empty").touch()
    for name in ("text", "half", "empty", "nowhere"):
        out = script("test_network", run, "--checkpoint", tmp_path / name)
        assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and name in out.stderr, out.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--genotype", "DARTS_V9"), "no genotype 'DARTS_V9'"),
        (("--genotype", '{"normal": ['), "not JSON"),
        (("--genotype", GENOTYPES["DARTS_V2"].to_json().replace("skip_connect", "skip")), "unknown operation 'skip'"),
        (("--genotype", "DARTS_V2_RNN"), "a convolutional cell is needed"),
        (("--data-set", "CIFAR"), "no data set 'CIFAR'; there are CIFAR-10"),
        (("--data-set", "CIFAR-10"), "get cifar-10-binary.tar.gz"),
        (("--channels", "3"), "channels must be a positive even number"),
        (("--cutout",), "cutout must be 0 or more and less than the 8 pixels of a side, got 16"),
        (("--auxiliary",), "the auxiliary head needs 8x8 pixels after the last reduction, got 2x2"),
        (("--pixels", "7"), "pixels must divide the 8 of a side, got 7"),
        (("--train-images", "5000"), "need 1 to 1,437 training points, got 5,000"),
        (("--drop-path", "1"), "drop_path must be below 1"),
        (("--hold-out", "1"), "the share of points held out"),
        (("--epochs", "0"), "epochs must be 1 or more, got 0"),
        (("--clip", "inf"), "clip must be a finite number"),
        (("--preset", "DARTS"), "--quick has sizes of its own; leave it or --preset out"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, said, tmp_path):
    out = script("train_genotype", 0, "--quick", *arguments, "--data", tmp_path, "--results", tmp_path / "results")
    assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and said in out.stderr
    assert not (tmp_path / "results").exists()


def test_a_folder_without_a_run(tmp_path):
    for name in (tmp_path, "DARTS_V2"):
        out = script("test_network", name)
        assert out.returncode == 2 and "is no folder of a finished run" in out.stderr


@pytest.mark.slow
def test_a_genotype_in_a_file_is_tested_too(run, tmp_path):
    (tmp_path / "cell.json").write_text(GENOTYPES["DARTS_V2"].to_json())
    torch.save(darts_network("DARTS_V2", 2, 3, in_channels=1).state_dict(), tmp_path / "state.pt")
    sizes = ("--data-set", "digits", "--channels", 2, "--layers", 3, "--cutout", 0, "--no-auxiliary")
    out = script("test_network", tmp_path / "cell.json", "--checkpoint", tmp_path / "state.pt", *sizes)
    assert out.returncode == 0 and "error" in out.stdout, out.stderr


def test_an_image_that_is_damaged_ends_a_training_in_a_line(tmp_path):
    from PIL import Image

    for part in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "ImageNet" / part / name).mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(tmp_path / "ImageNet" / part / name / "1.png")
    path = tmp_path / "ImageNet" / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    study = TrainGenotype(data_set="ImageNet", pixels=32, cutout=0, imagenet=True, classes=2, channels=2, layers=3)
    learner = study.learner([0], torch.device("cpu"), tmp_path)
    with pytest.raises(Problem, match=r"1.png is damaged"):
        next(learner.epochs())


def test_a_network_that_diverges_is_kept_as_such(tmp_path):
    out = script("train_genotype", 0, *SMALL[:-4], "--learning-rate", 1e30, "--results", tmp_path)
    assert out.returncode == 0 and "1 diverged" in out.stderr + out.stdout
    (folder,) = runs.run_folders(tmp_path)
    summary = summary_of(folder)
    assert summary["diverged_epoch"] == len(summary["history"]) and "test" not in summary
    assert summary["history"][-1]["train_loss"] is None or not math.isfinite(summary["history"][-1]["train_loss"])
