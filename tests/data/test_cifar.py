"""CIFAR in the official binary format, ImageNet16-120, their halves: small files written by hand."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from depthsearch.data import cifar, imagenet16
from depthsearch.data.cifar import BINARY_SETS, cell_split, reduced, search_halves
from depthsearch.data.files import DataError

N = 4  # images a file


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The data sets with so few images a file."""
    sizes = {name: cifar.replace(known, train_images=N, test_images=N) for name, known in BINARY_SETS.items()}
    monkeypatch.setattr(cifar, "BINARY_SETS", sizes)


def records(seed, name, n=N):
    """Labels (n, 1 or 2) and pixels (n, 3072)."""
    known, rng = BINARY_SETS[name], np.random.default_rng(seed)
    labels = rng.integers(0, known.n_classes, (n, known.labels), np.uint8)
    return labels, rng.integers(0, 256, (n, 3072), np.uint8)


def write(folder, name, n=N):
    known = BINARY_SETS[name]
    folder.mkdir(parents=True, exist_ok=True)
    for seed, file in enumerate((*known.train, *known.test)):
        (folder / file).write_bytes(np.concatenate(records(seed, name, n), 1).tobytes())
    return folder


@pytest.mark.parametrize("name", ["CIFAR-10", "CIFAR-100"])
@pytest.mark.parametrize("where", ["{folder}", "{name}/{folder}", "."])
def test_binary_files_are_read(tmp_path, name, where):
    known = BINARY_SETS[name]
    write(tmp_path / where.format(folder=known.folder, name=name), name)
    split = cell_split(name, tmp_path)
    files = len(known.train)
    assert split.x_train.shape == (files * N, 3, 32, 32) and split.x_test.shape == (N, 3, 32, 32)
    assert split.x_train.dtype == torch.uint8 and split.y_train.dtype == torch.int64 and split.x_valid is None
    labels, pixels = records(files - 1, name)
    assert split.y_train[-N:].tolist() == labels[:, -1].tolist()  # the fine label is the last
    image, last = split.x_train[-1], pixels[-1]
    assert int(image[2, 5, 7]) == last[2 * 1024 + 5 * 32 + 7]  # planes of red, green, blue, each row by row
    assert split.y_test.tolist() == records(files, name)[0][:, -1].tolist()
    inputs = split.inputs(split.x_train[:1])
    expected = (float(split.x_train[0, 1, 0, 0]) / 255 - known.mean[1]) / known.std[1]
    assert abs(float(inputs[0, 1, 0, 0]) - expected) < 1e-5


def test_images_are_scaled_by_the_constants_of_nasbench201():
    """Bytes, as its code has them."""
    found = {name: (known.mean, known.std) for name, known in BINARY_SETS.items()}
    found["ImageNet16-120"] = cifar.IMAGENET16_MEAN, cifar.IMAGENET16_STD
    bytes_ = {name: [round(255 * v, 2) for part in both for v in part] for name, both in found.items()}
    assert bytes_ == {
        "CIFAR-10": [125.3, 123.0, 113.9, 63.0, 62.1, 66.7],
        "CIFAR-100": [129.3, 124.1, 112.4, 68.2, 65.4, 70.4],
        "ImageNet16-120": [122.68, 116.66, 104.01, 63.22, 61.26, 65.09],
    }


def test_a_half_downloaded_file_is_refused_in_one_line(tmp_path):
    folder = write(tmp_path / "cifar-10-batches-bin", "CIFAR-10")
    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    for half in (whole[: len(whole) // 2 + 7], whole[: len(whole) // 2], whole + whole, b""):
        path.write_bytes(half)
        with pytest.raises(DataError, match=r"data_batch_3.bin has [\d,]+ bytes, 4 images have 12,292") as error:
            cell_split("CIFAR-10", tmp_path)
        assert "\n" not in str(error.value) and "cifar-10-binary.tar.gz" in str(error.value)
    path.write_bytes(b"\x0a" + whole[1:])
    with pytest.raises(DataError, match="has the label 10, the largest is 9"):
        cell_split("CIFAR-10", tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"no data_batch_3.bin in .*; get cifar-10-binary.tar.gz"):
        cell_split("CIFAR-10", tmp_path)


def test_unknown_and_missing_sets_are_refused(tmp_path):
    with pytest.raises(DataError, match="no data set 'CIFAR' for cells; there are CIFAR-10, CIFAR-100, ImageNet16-120"):
        cell_split("CIFAR", tmp_path)
    with pytest.raises(DataError, match=r"CIFAR-100: no train.bin in .*cifar-100-binary; get cifar-100-binary.tar.gz"):
        cell_split("CIFAR-100", tmp_path)
    with pytest.raises(DataError, match=r"ImageNet16-120.npz; make it with python -m depthsearch.data.imagenet16"):
        cell_split("ImageNet16-120", tmp_path)


def official_imagenet16(folder):
    """Ten training files and one of validation, of three images each; labels count from 1 to 1000."""
    folder.mkdir()
    images = {}
    for i, name in enumerate((*imagenet16.TRAIN, *imagenet16.TEST)):
        data = np.random.default_rng(i).integers(0, 256, (3, 768), np.uint8)
        content = {"data": data, "labels": [1 + i, 120, 121]}
        (folder / name).write_bytes(pickle.dumps(content))
        images[name] = data.reshape(-1, 3, 16, 16)
    return images


def test_imagenet16_is_converted_and_read(tmp_path, capsys):
    images = official_imagenet16(tmp_path / "official")
    arguments = ["--from", str(tmp_path / "official"), "--out", str(tmp_path / "ImageNet16-120.npz")]
    with pytest.raises(SystemExit) as stop:
        imagenet16.main(arguments)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "can run any code" in said and said.count("\n") == 1
    assert not (tmp_path / "ImageNet16-120.npz").exists()
    imagenet16.main([*arguments, "--trust"])
    split = cell_split("ImageNet16-120", tmp_path)
    assert split.y_train.tolist() == [y for i in range(10) for y in (i, 119)] and split.y_test.tolist() == [10, 119]
    assert split.x_train.dtype == torch.uint8 and split.x_train.shape == (20, 3, 16, 16)
    np.testing.assert_array_equal(split.x_train[2:4].numpy(), images["train_data_batch_2"][:2])


def test_damaged_imagenet16_is_refused(tmp_path):
    official_imagenet16(tmp_path / "official")
    (tmp_path / "official" / "train_data_batch_7").write_bytes(b"half")
    with pytest.raises(DataError, match="train_data_batch_7 is no file of ImageNet"):
        imagenet16.convert(tmp_path / "official", tmp_path / "out.npz")
    (tmp_path / "official" / "val_data").unlink()
    (tmp_path / "official" / "train_data_batch_7").unlink()
    with pytest.raises(DataError, match=r"no file .*train_data_batch_7"):
        imagenet16.convert(tmp_path / "official", tmp_path / "out.npz")
    path = tmp_path / "ImageNet16-120.npz"
    path.write_bytes(b"PK\x03\x04 half")
    with pytest.raises(DataError, match="is damaged"):
        cell_split("ImageNet16-120", tmp_path)
    good = {"x_train": np.zeros((2, 3, 16, 16), np.uint8), "y_train": np.array([0, 119])}
    for change in ({}, {"x_test": np.zeros((2, 3, 32, 32), np.uint8)}, {"y_test": np.array([0, 120])}):
        test = {"x_test": good["x_train"], "y_test": good["y_train"]} if change else {}
        np.savez(path, **good, **(test | change))
        with pytest.raises(DataError, match=r"is damaged|x_test and y_test are not") as error:
            cell_split("ImageNet16-120", tmp_path)
        assert "\n" not in str(error.value)


def test_halves_for_a_search(tmp_path):
    split = cell_split("CIFAR-10", write(tmp_path, "CIFAR-10"))
    halves, again, other = (search_halves(split, seed) for seed in (1, 1, 2))
    assert halves.x_valid is not None and len(halves.y_train) == len(halves.x_valid) == 5 * N // 2
    assert halves.x_train.equal(again.x_train) and not halves.x_train.equal(other.x_train)
    both = torch.cat([halves.x_train, halves.x_valid]).flatten(1)
    assert both.unique(dim=0).equal(split.x_train.flatten(1).unique(dim=0))  # each point in one of them
    first = search_halves(split, None)
    assert first.x_valid is not None and torch.cat([first.x_train, first.x_valid]).equal(split.x_train)


def test_reduced_images_are_means_over_squares(tmp_path):
    split = cell_split("CIFAR-10", write(tmp_path, "CIFAR-10"))
    small = reduced(split, n_train=6, n_test=3, pixels=16)
    assert small.x_train.shape == (6, 3, 16, 16) and small.x_test.shape == (3, 3, 16, 16) and len(small.y_test) == 3
    square = split.x_train[5, 2, 8:10, 4:6].double().mean()
    assert abs(float(small.x_train[5, 2, 4, 2]) - float(square)) <= 0.5 and small.x_train.dtype == torch.uint8
    assert reduced(split, 6, 3, 32).x_train.equal(split.x_train[:6])
    for bad in ((6, 3, 15), (0, 3, 16), (6, 99, 16)):
        with pytest.raises(ValueError):
            reduced(split, *bad)


@pytest.mark.skipif("DEPTHSEARCH_DATA" not in os.environ, reason="needs the real images")
def test_the_real_cifar10(monkeypatch):
    monkeypatch.setattr(cifar, "BINARY_SETS", BINARY_SETS)
    root = Path(os.environ["DEPTHSEARCH_DATA"])
    if not (root / "cifar-10-batches-bin").is_dir():
        pytest.skip("no cifar-10-batches-bin in DEPTHSEARCH_DATA")
    split = cell_split("CIFAR-10", root)
    assert split.y_train.bincount().tolist() == [5000] * 10 and split.y_test.bincount().tolist() == [1000] * 10
    mean = split.x_train.double().mean((0, 2, 3))
    torch.testing.assert_close(mean, torch.tensor([125.307, 122.950, 113.865]).double(), rtol=0, atol=1e-3)
