"""The table of NAS-Bench-201: read, refused where it is damaged, made from archives in the official layout."""

import csv
import gzip
import os
import sys
import types
from pathlib import Path

import pytest
import torch

from depthsearch.cells import nasbench201_strings
from depthsearch.data import nasbench, nasbench_official
from depthsearch.data.files import DataError
from depthsearch.data.nasbench import main, read_nasbench201
from depthsearch.data.nasbench_official import COLUMNS, NUMBERS

CELLS = nasbench201_strings.all_cells()


def rows():
    """A table of made-up numbers: column k of cell i is (i * (k + 1)) % 997 / 10."""
    return [[i, string, *((i * (k + 1)) % 997 / 10 for k in range(len(NUMBERS)))] for i, string in enumerate(CELLS)]


def write(path, lines, columns=COLUMNS):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="") as file:
        csv.writer(file).writerows([columns, *lines])
    return path


@pytest.mark.parametrize("name", ["nasbench201.csv.gz", "nasbench201.csv", "nasbench/nasbench201.csv.gz"])
def test_a_table_is_read(tmp_path, name):
    (tmp_path / "nasbench").mkdir()
    write(tmp_path / name, rows())
    table = read_nasbench201(tmp_path)
    assert table.strings == tuple(CELLS) and table.index(CELLS[77]) == 77
    assert nasbench.OPERATIONS == nasbench201_strings.OPERATIONS
    for i in (0, 77, 15624):
        names = tuple(nasbench.OPERATIONS[k] for k in table.operations[i])
        assert names == nasbench201_strings.parse_cell(CELLS[i])
    assert table.test_accuracy("CIFAR-100")[77] == 77 * 2 / 10
    assert table.columns["in16_val_12"][77] == (77 * 14) % 997 / 10
    with pytest.raises(ValueError, match="has no cell"):
        table.index("|none~0|")


def damaged(change):
    lines, columns = rows(), list(COLUMNS)
    change(lines, columns)
    return lines, columns


def without_column(lines, columns):
    at = columns.index("c100_test_200_mean")
    for line in (columns, *lines):
        del line[at]


DAMAGE = {
    "has no column c100_test_200_mean": without_column,
    "has 15,624 cells, NAS-Bench-201 has 15,625": lambda lines, _: lines.pop(),
    "has 15,626 cells": lambda lines, _: lines.append(lines[-1]),
    "cell 5 has 3 values for 16 columns": lambda lines, _: lines[5].__delitem__(slice(3, None)),
    "'conv~0' is not a cell": lambda lines, _: lines[9].__setitem__(1, "conv~0"),
    "could not convert string to float: 'high'": lambda lines, _: lines[9].__setitem__(4, "high"),
    "is not of finite numbers": lambda lines, _: lines[9].__setitem__(4, "nan"),
    "is not in the order of the official index": lambda lines, _: lines.reverse(),
    "has a cell twice": lambda lines, _: lines[9].__setitem__(1, CELLS[3]),
}


@pytest.mark.parametrize("said", DAMAGE)
def test_a_damaged_table_is_refused_in_one_line(tmp_path, said):
    path = write(tmp_path / "nasbench201.csv", *damaged(DAMAGE[said]))
    with pytest.raises(DataError) as error:
        read_nasbench201(path)
    assert said in str(error.value) and "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_missing_or_half_table_is_refused_in_one_line(tmp_path):
    with pytest.raises(DataError, match="no table of NAS-Bench-201"):
        read_nasbench201(tmp_path)
    path = write(tmp_path / "nasbench201.csv.gz", rows())
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="is damaged"):
        read_nasbench201(path)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match="is empty"):
        read_nasbench201(path)


@pytest.mark.skipif("DEPTHSEARCH_DATA" not in os.environ, reason="needs the real table")
def test_the_best_cells_of_the_real_table():
    table = read_nasbench201(Path(os.environ["DEPTHSEARCH_DATA"]))
    found = {name: int(table.test_accuracy(name).argmax()) for name in nasbench.SETS}
    assert found == {"CIFAR-10": 6111, "CIFAR-100": 9930, "ImageNet16-120": 857}
    assert table.strings == tuple(CELLS)
    skip = table.index(
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
    )
    assert round(float(table.test_accuracy()[skip]), 3) == 54.297


# Conversion. A small archive in the layout of the official ones: per cell and number of epochs the state of an
# `ArchResults`, whose `all_results` are the states of the runs by (what was trained on, seed).

SEEDS = {"cifar10-valid": [777, 888], "cifar10": [777, 999], "cifar100": [888, 777], "ImageNet16-120": [777]}
TESTED = {"cifar10-valid": ("x-valid", "ori-test"), "cifar10": ("ori-test",)}
OTHERS = ("x-valid", "x-test", "ori-test")


def accuracy(index, epochs, trained, tested, seed):
    return index + epochs / 10 + list(SEEDS).index(trained) + OTHERS.index(tested) / 7 + seed / 1000


def run(index, epochs, trained, seed):
    last = epochs - 1
    keys = {tested: f"{tested}@{last}" for tested in TESTED.get(trained, OTHERS)}
    return {
        "name": "infer.tiny",
        "net_state_dict": None,
        "train_acc1es": {last: 99.0},
        "train_losses": {last: 0.1},
        "train_times": None,
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": CELLS[index], "class_num": 10},
        "params": index + 0.25,
        "flop": 1.0,
        "seed": seed,
        "epochs": epochs,
        "latency": [0.1],
        "eval_names": list(keys),
        "eval_acc1es": {key: accuracy(index, epochs, trained, tested, seed) for tested, key in keys.items()},
        "eval_losses": dict.fromkeys(keys.values(), 1.0),
        "eval_times": {},
    }


def cell(index, short, full):
    return {
        name: {
            "arch_index": index,
            "arch_str": CELLS[index],
            "all_results": {(t, s): run(index, epochs, t, s) for t, seeds in SEEDS.items() for s in seeds},
            "dataset_seed": {trained: list(seeds) for trained, seeds in SEEDS.items()},
            "clear_net_done": True,
        }
        for name, epochs in ((short, 12), (full, 200))
    }


def archive(short, full, n=3):
    cells = {i: cell(i, short, full) for i in range(n)}
    return {"meta_archs": CELLS[:n], "arch2infos": cells, "evaluated_indexes": list(range(n))}


class StubResults:
    """As much of `nats_bench`'s `ArchResults` as is used."""

    def __init__(self, state):
        self.state = state

    def get_dataset_seeds(self, trained):
        return self.state["dataset_seed"][trained]

    def get_compute_costs(self, trained):
        return {"params": self.state["all_results"][trained, self.get_dataset_seeds(trained)[0]]["params"]}

    def get_metrics(self, trained, tested, is_random=False):
        seeds = self.get_dataset_seeds(trained) if is_random is False else [is_random]
        runs = [self.state["all_results"][trained, seed] for seed in seeds]
        return {"accuracy": sum(r["eval_acc1es"][f"{tested}@{r['epochs'] - 1}"] for r in runs) / len(runs)}


class StubAPI(dict):
    def __len__(self):
        return len(self["meta_archs"])

    def arch(self, index):
        return self["meta_archs"][index]

    def query_meta_info_by_index(self, index, hp):
        return StubResults(self["arch2infos"][index][hp])


@pytest.fixture(params=["package", "stub"])
def api(request, monkeypatch):
    """The official package where it is installed, and always a stand-in for it."""
    monkeypatch.setattr(nasbench_official, "N_CELLS", 3)
    if request.param == "package":
        return pytest.importorskip("nats_bench").pickle_save
    stub = types.ModuleType("nats_bench")
    stub.create = lambda source, space, **_: StubAPI(source)
    monkeypatch.setitem(sys.modules, "nats_bench", stub)
    return None


def assert_is_the_archive(path):
    header, *lines = csv.reader(gzip.decompress(path.read_bytes()).decode().splitlines())
    assert tuple(header) == COLUMNS and len(lines) == 3
    for index, line in enumerate(lines):
        row = dict(zip(header, line, strict=True))
        assert (row["index"], row["arch_str"]) == (str(index), CELLS[index])
        assert row["params_M_c10"] == f"{index + 0.25:.6f}"
        mean = sum(accuracy(index, 200, "cifar10", "ori-test", seed) for seed in (777, 999)) / 2
        assert row["c10_test_200_mean"] == f"{mean:.4f}"
        assert row["c10_val_200_single"] == f"{accuracy(index, 200, 'cifar10-valid', 'x-valid', 777):.4f}"
        assert row["c100_test_200_single"] == f"{accuracy(index, 200, 'cifar100', 'x-test', 888):.4f}"
        assert row["in16_val_12"] == f"{accuracy(index, 12, 'ImageNet16-120', 'x-valid', 777):.4f}"


def test_nasbench201s_own_file(tmp_path, api):
    torch.save(archive("less", "full"), tmp_path / "NAS-Bench-201-v1_1.pth")
    nasbench_official.convert(tmp_path / "NAS-Bench-201-v1_1.pth", tmp_path / "table.csv.gz")
    assert_is_the_archive(tmp_path / "table.csv.gz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["NAS-Bench-201-v1_1.pth", "table.csv.gz"]


@pytest.mark.parametrize("as_folder", [False, True])
def test_nats_benchs_files(tmp_path, monkeypatch, as_folder):
    save = pytest.importorskip("nats_bench").pickle_save
    monkeypatch.setattr(nasbench_official, "N_CELLS", 3)
    whole, source = archive("12", "200"), tmp_path / "NATS-tss-simple"
    if as_folder:
        source.mkdir()
        save({"meta_archs": whole["meta_archs"]}, source / "meta.pickle")
        for index, infos in whole["arch2infos"].items():
            save(infos, source / f"{index:06d}.pickle")
    else:
        save(whole, source.with_suffix(".pickle"))
        source = source.with_suffix(".pickle.pbz2")
    nasbench_official.convert(source, tmp_path / "table.csv.gz")
    assert_is_the_archive(tmp_path / "table.csv.gz")


def test_an_archive_that_lacks_something_is_refused(tmp_path, api, monkeypatch):
    source, out = tmp_path / "official.pth", tmp_path / "table.csv"
    whole = archive("less", "full")
    del whole["arch2infos"][1]["full"]
    torch.save(whole, source)
    with pytest.raises(DataError, match="cell 1 is not complete"):
        nasbench_official.convert(source, out)
    torch.save({"something": "else"}, source)
    with pytest.raises(DataError, match="is no file of NATS-Bench or NAS-Bench-201"):
        nasbench_official.convert(source, out)
    torch.save(archive("less", "full", n=2), source)
    with pytest.raises(DataError, match=r"has 2 cells, NAS-Bench-201 has 3"):
        nasbench_official.convert(source, out)
    assert not out.exists()


def test_nothing_is_opened_without_trust(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(nasbench, "convert", lambda *_: pytest.fail("opened"))
    with pytest.raises(SystemExit) as stop:
        main(["--from", str(tmp_path / "official.pth"), "--out", str(tmp_path / "table.csv")])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "--trust" in said and "can run any code" in said and said.count("\n") == 1


def test_what_is_missing_is_said(tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit) as stop:
        main(["--from", str(tmp_path / "official.pth"), "--trust", "--out", str(tmp_path / "table.csv")])
    assert stop.value.code == 2 and "no file" in capsys.readouterr().err
    (tmp_path / "official.pth").touch()
    monkeypatch.setitem(sys.modules, "nats_bench", None)
    with pytest.raises(DataError, match="the package nats_bench is missing"):
        nasbench_official.convert(tmp_path / "official.pth", tmp_path / "table.csv")
    with pytest.raises(DataError, match="no folder"):
        nasbench_official.convert(tmp_path / "official.pth", tmp_path / "nowhere" / "table.csv")
