"""Image data sets, and the convolutional network trained on `digits` through the command line."""

import gzip
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from conftest import load, scan_script
from scipy.io import savemat
from sklearn.datasets import load_digits

from depthsearch.data import images as data
from depthsearch.data.files import DataError
from depthsearch.data.images import image_split
from depthsearch.reporting.tables.depth_scans import read_tables
from depthsearch.running import folders as runs
from depthsearch.studies.images import Images
from depthsearch.studies.saved import study_of


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def write_idx(folder, n=(7, 3), pack=False, n_labels=None):
    """Random IDX files of the true layout; returns the arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, arrays = np.random.default_rng(0), []
    for name in data.IDX_FILES:
        count = n[0] if "train" in name else n[1]
        if "labels" in name and n_labels:
            count = n_labels
        shape = (count, 28, 28) if "images" in name else (count,)
        arrays.append(rng.integers(0, 256 if len(shape) == 3 else 10, shape, np.uint8))
        content = idx(arrays[-1])
        (folder / f"{name}.gz").write_bytes(gzip.compress(content)) if pack else (folder / name).write_bytes(content)
    return arrays


@pytest.mark.parametrize("place", ["FashionMNIST", "FashionMNIST/raw"])
@pytest.mark.parametrize("pack", [False, True])
def test_idx_files_are_used_where_they_are(tmp_path, place, pack):
    arrays = write_idx(tmp_path / place, pack=pack)
    split = image_split("Fashion-MNIST", tmp_path)
    for tensor, array in zip(
        (split.x_train[:, 0], split.y_train, split.x_test[:, 0], split.y_test), arrays, strict=True
    ):
        np.testing.assert_array_equal(tensor.numpy(), array)
    assert split.x_train.dtype == torch.uint8 and split.y_train.dtype == torch.long
    pixel = (arrays[0][2, 5, 6] / 255 - 0.2860) / 0.3530
    assert split.inputs(split.x_train)[2, 0, 5, 6].item() == pytest.approx(pixel, abs=1e-6)


def test_svhn_of_the_true_layout(tmp_path):
    rng = np.random.default_rng(0)
    for name in data.MAT_FILES:
        images = rng.integers(0, 256, (32, 32, 3, 12), np.uint8)
        savemat(tmp_path / name, {"X": images, "y": np.arange(12, dtype=np.uint8).reshape(-1, 1) % 10 + 1})
    split = image_split("SVHN", tmp_path)
    assert split.x_train.shape == (12, 3, 32, 32)
    assert split.y_test.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    assert split.x_test[5, 1, 20, 30] == images[20, 30, 1, 5]
    means = [split.inputs(split.x_test).mean((0, 2, 3))[c].item() for c in range(3)]
    expected = [
        (images[:, :, c].mean() / 255 - m) / s for c, (m, s) in enumerate(zip(split.mean, split.std, strict=True))
    ]
    assert means == pytest.approx(expected, abs=1e-5)


def test_digits_need_no_files(tmp_path):
    split = image_split("digits", tmp_path / "nowhere")
    assert split.x_train.shape == (1437, 1, 8, 8) and split.x_test.shape == (360, 1, 8, 8)
    pixels = split.inputs(split.x_train)
    assert pixels.mean().item() == pytest.approx(0, abs=0.01) and pixels.std().item() == pytest.approx(1, abs=0.01)
    images = {tuple((x.flatten().double() * 16 / 255).round().tolist()) for x in (*split.x_train, *split.x_test)}
    assert images == {tuple(x) for x in load_digits().data}  # none lost, none twice beyond those the set has twice
    assert set(split.y_test.tolist()) == set(range(10))


def test_held_out_points_are_the_same_for_both_kinds_and_leave_training(tmp_path):
    whole = image_split("digits", tmp_path)
    splits = [Images(kind=kind, data_set="digits", protocol="fair").split(3, tmp_path) for kind in ("LDN", "DDN")]
    assert torch.equal(splits[0].x_valid, splits[1].x_valid) and torch.equal(splits[0].x_train, splits[1].x_train)
    assert len(splits[0].y_valid) == 144 and len(splits[0].y_train) == 1437 - 144
    together = torch.cat([splits[0].x_train, splits[0].x_valid]).flatten(1)
    assert sorted(map(bytes, together.numpy())) == sorted(map(bytes, whole.x_train.flatten(1).numpy()))
    assert torch.equal(splits[0].x_test, whole.x_test)
    paper = Images(data_set="digits").split(3, tmp_path)
    assert torch.equal(paper.x_valid, whole.x_test) and len(paper.y_train) == 1437


def test_damaged_files_are_named(tmp_path, monkeypatch):
    write_idx(tmp_path / "MNIST", pack=True)
    path = tmp_path / "MNIST" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:200] + b"\0" * 50 + whole[250:], gzip.compress(b"no idx")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is .*get it again"):
            image_split("MNIST", tmp_path)
    path.write_bytes(bytes([0, 0, 8, 3, 0, 0]))
    with pytest.raises(DataError, match=r"is damaged.*get it again"):  # not even a gzip file
        image_split("MNIST", tmp_path)
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 3, 0, 0])))
    with pytest.raises(DataError, match=r"is 6 bytes, which is not what its header says"):
        image_split("MNIST", tmp_path)
    path.write_bytes(gzip.compress(idx(np.zeros(7, np.uint8))))
    with pytest.raises(DataError, match=r"are not 28 x 28 images and labels 0..9"):
        image_split("MNIST", tmp_path)
    signed = bytes([0, 0, 8, 2]) + b"\xff" * 8  # sizes of which the product is 1, if they had signs
    path.write_bytes(gzip.compress(signed + b"\0"))
    with pytest.raises(DataError, match=r"is 13 bytes, which is not what its header says"):
        image_split("MNIST", tmp_path)
    write_idx(tmp_path / "none" / "MNIST", n=(0, 3))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte holds no images"):
        image_split("MNIST", tmp_path / "none")
    write_idx(tmp_path / "long" / "MNIST", n_labels=8)
    with pytest.raises(DataError, match="train-labels-idx1-ubyte has 8 labels for the 7 images"):
        image_split("MNIST", tmp_path / "long")
    for name in data.MAT_FILES:
        (tmp_path / name).write_bytes(b"not matlab")
    with pytest.raises(DataError, match=r"train_32x32.mat is no SVHN file"):
        image_split("SVHN", tmp_path)


def test_nothing_is_downloaded_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere: make it"):
        image_split("MNIST", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--datasets", "CIFAR"], "no image data set 'CIFAR'; there are MNIST"),
        (["--datasets", "KMNIST"], "--datasets digits, which needs no files"),
        (["--datasets", "MNIST"], "is damaged"),
        (["--datasets", "Fashion-MNIST"], "train-labels-idx1-ubyte has 8 labels for the 7 images"),
        (["--depths", "-1"], "depth must be 0 or more"),
        (["--precision", "tf32"], "--precision tf32 needs a CUDA device"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, said, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    def no_network(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.datasets.KMNIST", no_network)
    write_idx(tmp_path / "data" / "MNIST", pack=True)
    write_idx(tmp_path / "data" / "FashionMNIST", n_labels=8)
    path = tmp_path / "data" / "MNIST" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    options = ["--data", tmp_path / "data", "--results", tmp_path / "results"]
    out = scan_script("0", *arguments, *options, name="max_depth_images")
    assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and said in out.stderr
    assert not (tmp_path / "results").exists()


def test_the_grids_are_the_papers():
    for name, kind in (("max_depth_images", "LDN"), ("deterministic_depth_images", "DDN")):
        grid = load(name).GRID
        assert len(grid) == 48 and {s.kind for s in grid} == {kind} and {s.protocol for s in grid} == {"paper"}
        assert {s.data_set for s in grid} == {"MNIST", "Fashion-MNIST", "SVHN"}
        assert grid[0].training.decay_epoch == (30 if kind == "DDN" else None)
        assert (grid[0].training.epochs, grid[0].training.patience, grid[0].training.batch_size) == (500, 30, 512)
    fair = [Images(kind=kind, protocol="fair").training for kind in ("LDN", "DDN")]
    assert fair[0] == fair[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, no_gpu):
    """A quick scan of LDN and DDN on digits, in both protocols."""
    results = tmp_path_factory.mktemp("results")
    for name in ("max_depth_images", "deterministic_depth_images"):
        for protocol in ("paper", "fair"):
            options = ("--depths", 0, 3, "--epochs", 12, "--protocol", protocol, "--results", results)
            out = scan_script("0", "--quick", *options, name=name)
            assert out.returncode == 0, out.stderr
    return results


@pytest.mark.slow
def test_runs_on_digits(finished):
    folders = list(runs.run_folders(finished))
    assert len(folders) == 16 and {f.parents[1].name for f in folders} == {"digits"}
    for folder in folders:
        config, summary = (json.loads((folder / f"{name}.json").read_text()) for name in ("config", "summary"))
        setting = study_of(config["configuration"])
        network, depth = setting.network(), setting.posterior()
        runs.load_weights(folder, network, depth)
        assert len(summary["history"]) == 12 and summary["best_epoch"] == 1 + max(
            range(12), key=lambda i: summary["history"][i]["valid_log_likelihood"]
        )
        # the numbers are those of the saved weights
        split = setting.split(config["seed"], folder)
        with torch.no_grad():
            wrong = network.eval()(split.inputs(split.x_test))[-1].argmax(-1) != split.y_test
        assert summary["depths"][-1]["test_error"] == pytest.approx(wrong.double().mean().item(), abs=1 / 360 + 1e-9)
        deep = summary["variants"]["DDN" if setting.kind == "DDN" else "LDN-full"]
        assert deep["test_error"] < (0.8 if setting.max_depth == 0 else 0.3)
        assert all(v > 0 for v in summary["seconds"].values())
        timed = {"DDN"} if setting.kind == "DDN" else {"DDN", "DDN-95", "LDN-95", "LDN-full"}
        assert set(summary["seconds"]) == {"training_seconds", *(f"{name}_predict_seconds" for name in timed)}
    tables = read_tables(finished)
    assert set(tables["runs"]["protocol"]) == {"paper", "fair"}


@pytest.mark.slow
def test_an_image_run_is_repeatable(finished, tmp_path):
    options = ("--depths", 3, "--epochs", 12, "--results", tmp_path)
    assert scan_script("0", "--quick", *options, name="max_depth_images").returncode == 0
    folders = list(runs.run_folders(tmp_path))
    assert len(folders) == 2
    for folder in folders:
        a, b = (json.loads((f / "summary.json").read_text()) for f in (folder, finished / folder.relative_to(tmp_path)))
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


@pytest.mark.slow
def test_mixed_precision_is_close_to_float32(tmp_path, no_gpu):
    """Not the same numbers, but the same network: the ELBO after some epochs agrees to a few hundredths of a nat."""
    elbos = []
    for precision in ("float32", "bfloat16"):
        options = ("--depths", 3, "--epochs", 6, "--repeats", 1, "--precision", precision, "--results", tmp_path)
        assert scan_script("0", "--quick", *options, name="max_depth_images").returncode == 0
        (folder,) = [f for f in runs.run_folders(tmp_path) if precision in f.parent.name]
        elbos.append(json.loads((folder / "summary.json").read_text())["history"][-1]["elbo"])
    assert elbos[0] != elbos[1] and abs(elbos[0] - elbos[1]) < 0.05


def test_processes_that_get_the_same_files_at_once_do_not_meet(tmp_path, monkeypatch):
    """What torchvision writes bit by bit is seen when it is whole."""

    def slowly(folder, download):
        arrays = write_idx(Path(folder) / "KMNIST" / "raw")
        last = Path(folder) / "KMNIST" / "raw" / data.IDX_FILES[-1]
        last.write_bytes(last.read_bytes()[:9])
        time.sleep(0.2)
        last.write_bytes(idx(arrays[-1]))

    monkeypatch.setattr("torchvision.datasets.KMNIST", slowly)
    with ThreadPoolExecutor(4) as pool:
        splits = list(pool.map(lambda i: time.sleep(0.07 * i) or image_split("KMNIST", tmp_path), range(4)))
    assert [len(split.y_train) for split in splits] == [7] * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["KMNIST"]
