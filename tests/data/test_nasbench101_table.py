"""NAS-Bench-101's table: records of the true layout, written here, and what is drawn from a table."""

import base64
import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from depthsearch.data.files import DataError
from depthsearch.data.nasbench101 import (
    MEAN,
    UNSAID,
    Table,
    labels_of,
    nested_splits,
    problem,
    read_table,
    save_table,
    splits,
)
from depthsearch.data.nasbench101_convert import from_arrays, from_hdf5, from_records, main, read_metrics
from depthsearch.data.tfrecords import masked_crc32c, read_fields, read_records

WIDE = ("0110" "0001" "0001" "0000", "input,conv1x1-bn-relu,maxpool3x3,output")  # fmt: skip
CELL = ("0100" "0010" "0001" "0000", "input,conv3x3-bn-relu,maxpool3x3,output")  # fmt: skip


def crc32c(text: bytes) -> int:
    """CRC-32C bit by bit, from its definition."""
    crc = 0xFFFFFFFF
    for byte in text:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(text: bytes) -> int:
    crc = crc32c(text)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(text: bytes) -> bytes:
    length = struct.pack("<Q", len(text))
    return length + struct.pack("<I", masked(length)) + text + struct.pack("<I", masked(text))


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def metrics(valid: float, test: float, parameters: int = 1_234_567) -> bytes:
    """A `ModelMetrics` of the layout in nasbench/lib/model_metrics.proto: start, half-way, end."""
    message = b""
    for epoch, accuracies in [(0.0, (0.1, 0.1)), (54.0, (0.5, 0.4)), (108.0, (valid, test))]:
        numbers = [epoch, 100 * epoch, 0.99, *accuracies]
        evaluation = b"".join(bytes([field << 3 | 1]) + struct.pack("<d", x) for field, x in enumerate(numbers, 1))
        evaluation += bytes([6 << 3 | 2, 4]) + b"ckpt"
        message += bytes([1 << 3 | 2]) + varint(len(evaluation)) + evaluation
    return message + bytes([2 << 3]) + varint(parameters) + bytes([3 << 3 | 1]) + struct.pack("<d", 2.5)


def record(name: str, cell: tuple[str, str], valid: float, test: float, epochs: int = 108) -> bytes:
    text = base64.b64encode(metrics(valid, test)).decode()
    return json.dumps([name, epochs, *cell, text]).encode()


RECORDS = [
    *(record("a" * 32, CELL, 0.9 + run / 100, 0.8 + run / 100) for run in range(3)),
    *(record("b" * 32, WIDE, valid, valid - 0.01) for valid in (0.1, 0.93, 0.94)),
    *(record("c" * 32, WIDE, 0.1 + run / 100, 0.1) for run in range(3)),
    *(record("a" * 32, CELL, 0.6, 0.5, epochs=4) for _ in range(3)),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "nasbench_full.tfrecord"
    path.write_bytes(b"".join(map(framed, RECORDS)))
    return path


def test_checksums_of_the_standard_and_in_batches() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, B.4
    texts = [b"", b"123456789", b"a", bytes(range(256)) * 3]
    assert masked_crc32c(texts).tolist() == [masked(text) for text in texts]
    assert len(masked_crc32c([])) == 0


def test_records_are_read_back(file: Path, monkeypatch) -> None:
    assert list(read_records(file)) == RECORDS
    monkeypatch.setattr("depthsearch.data.tfrecords.BATCH", 5)
    assert list(read_records(file)) == RECORDS


def test_protocol_buffers_are_read() -> None:
    assert read_metrics(metrics(0.91, 0.92, parameters=300)) == (300, 0.91, 0.92)
    assert list(read_fields(b"\x08\x96\x01\x15\x00\x00\x80\x3f")) == [(1, 150), (2, 1.0)]
    for bad in (b"\x08\x96", b"\x09\x00", b"\x0a\x05ab", b"\x0b"):
        with pytest.raises(ValueError):
            list(read_fields(bad))
    with pytest.raises(ValueError, match="lacks a validation"):
        read_metrics(metrics(1.5, 0.9))
    with pytest.raises(ValueError, match="lack evaluations"):
        read_metrics(b"")


def test_official_records_make_the_table(file: Path) -> None:
    table = from_records(file)
    assert table.hash.tolist() == ["a" * 32, "b" * 32, "c" * 32] and table.label == "seed 0"
    assert table.vertices.tolist() == [4, 4, 4] and table.parameters.tolist() == [1_234_567] * 3
    assert table.operations[0].tolist() == [3, 0, 2, 4, -1, -1, -1]
    assert table.adjacency[1, :4, :4].tolist() == [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert table.adjacency[:, 4:].sum() == table.adjacency[:, :, 4:].sum() == 0
    np.testing.assert_allclose(table.validation_runs[0, 3], [0.9, 0.91, 0.92], rtol=1e-6)
    np.testing.assert_allclose(table.test_runs[0, 0], [0.5] * 3, rtol=1e-6)
    np.testing.assert_allclose(table.validation_accuracy[0], [0.6, np.nan, np.nan, 0.9], rtol=1e-6)
    assert from_records(file, "best").label == "best of three seeds"
    with pytest.raises(ValueError, match="not 'worst'"):
        from_records(file, "worst")


def test_labels_follow_the_original_s_rule(file: Path) -> None:
    table = from_records(file)
    original = labels_of(table, "seed 0")
    np.testing.assert_allclose(original.percent, [90, 93, 100 * MEAN], rtol=1e-6)
    assert original.known.all() and "seed 0, 2 runs below 20 % replaced" in original.caption
    np.testing.assert_allclose(labels_of(table, "best").percent, [92, 94, 12], rtol=1e-6)
    assert labels_of(table, "best").known.tolist() == [True, True, False]
    mean = labels_of(table, "mean")  # of the runs that did not blow up
    np.testing.assert_allclose(mean.percent, [91, 93.5, 0], rtol=1e-6)
    assert mean.known.tolist() == [True, True, False]
    unknown = table.validation_runs.copy()
    unknown[1, -1] = [np.nan, 0.93, 0.94]
    for which, said in (("best", 94), ("mean", 93.5)):
        some = labels_of(replace(table, validation_runs=unknown), which)
        np.testing.assert_allclose(some.percent[1], said, rtol=1e-6)
        assert some.known.tolist() == [True, True, False]
    plain = labels_of(table)
    assert plain.known.tolist() == [True, False, False] and "2 cells below 20 %" in plain.caption
    single = replace(table, validation_runs=None, label="best of three seeds")
    assert "best of three seeds" in labels_of(single).caption
    with pytest.raises(ValueError, match="three runs"):
        labels_of(single, "seed 0")
    with pytest.raises(ValueError, match="a label is"):
        labels_of(table, "seed 3")


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda data: data[:-3], "ends within record 12: it is truncated"),
        (lambda data: data[:-3] + b"xyz", "record 12 is damaged"),
        (lambda data: data[:5], "ends within record 1"),
        (lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:], "record 1 is damaged"),
        (lambda data: bytes([data[0] ^ 1]) + data[1:], "record 1 is damaged"),
        (lambda data: data[:7] + b"\xff" + data[8:], "record 1 is damaged"),
        (lambda data: framed(b"no json"), "record 1 is none of NAS-Bench-101"),
        (lambda data: framed(b'["a", 108, "01", "input,output", "AA=="]'), "record 1 is none of NAS-Bench-101"),
        (lambda data: data + framed(RECORDS[0]), "more than 3 runs"),
        (lambda data: framed(record("d" * 32, (CELL[0][::-1], CELL[1]), 0.9, 0.9)), "is no cell"),
        (lambda data: framed(record("d" * 32, (CELL[0], CELL[1] + ",output"), 0.9, 0.9)), "do not make a cell"),
        (lambda data: framed(record("d" * 32, CELL, 0.9, 0.9, epochs=5)), "none of NAS-Bench-101"),
        (lambda data: b"", "has no records"),
    ],
)
def test_damaged_files_are_one_line_and_status_2(file: Path, capsys, damage, says) -> None:
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(SystemExit) as stop:
        main([str(file), str(file.with_suffix(".npz"))])
    message = capsys.readouterr().err
    assert stop.value.code == 2 and says in message and message.count("\n") == 1
    assert not file.with_suffix(".npz").exists()


@pytest.mark.slow
def test_conversion_by_command_and_back(file: Path) -> None:
    out = file.parent / "made" / "nasbench101.npz"
    command = [sys.executable, "-m", "depthsearch.data.nasbench101_convert", str(file), str(out), "--label", "best"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "3 cells" in done.stdout and "best of three seeds" in done.stdout
    table, again = from_records(file, "best"), read_table(out)
    for name, value in vars(table).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    missing = subprocess.run([*command[:3], "nowhere.tfrecord", str(out)], capture_output=True, text=True, check=False)
    assert missing.returncode == 2 and "nowhere.tfrecord is missing" in missing.stderr


def as_hdf5_holds_it(table: Table) -> dict[str, np.ndarray]:
    ids = np.select([table.operations == 3, table.operations == 4], [-1, -2], table.operations)
    runs = np.zeros((len(table), 4, 3, 2, 4), dtype=np.float32)
    runs[..., 1, 2], runs[..., 1, 3] = table.validation_runs, table.test_runs
    return {
        "hash": np.array([name.encode() for name in table.hash]),
        "adjacency": table.adjacency,
        "operations": np.where(ids == -1, np.where(table.operations == 3, -1, 0), ids),
        "num_vertices": table.vertices,
        "trainable_parameters": table.parameters,
        "metrics": runs,
    }


def test_the_hdf5_of_the_reproduction_makes_the_same_table(file: Path) -> None:
    table = from_records(file, "seed 1")
    again = from_arrays("nasbench.hdf5", as_hdf5_holds_it(table), "seed 1")
    for name, value in vars(table).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    with pytest.raises(ValueError, match="do not fit"):
        from_arrays("x.hdf5", as_hdf5_holds_it(table) | {"metrics": np.zeros((3, 4))}, "seed 1")


def test_hdf5_files_are_read_where_h5py_is(file: Path) -> None:
    try:
        import h5py
    except ImportError:
        with pytest.raises(ValueError, match="pip install h5py"):
            from_hdf5("nasbench.hdf5")
        return
    table, path = from_records(file), file.with_suffix(".hdf5")
    with h5py.File(path, "w") as out:
        for name, value in as_hdf5_holds_it(table).items():
            out[name] = value
    np.testing.assert_array_equal(from_hdf5(path).validation_runs, table.validation_runs)
    with pytest.raises(ValueError, match="cannot be read as HDF5"):
        from_hdf5(file)


def test_tables_that_are_none_are_named(file: Path, tmp_path: Path) -> None:
    table, path = from_records(file), tmp_path / "table.npz"
    for name, says in [("adjacency", "lacks adjacency"), ("validation_accuracy", "lacks validation_accuracy")]:
        np.savez(path, **{key: value for key, value in vars(table).items() if key != name})
        with pytest.raises(ValueError, match=says):
            read_table(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot be read"):
        read_table(path)
    with pytest.raises(ValueError, match="is missing: make it"):
        read_table(tmp_path / "nowhere.npz")
    save_table(path, replace(table, operations=np.zeros_like(table.operations)))
    with pytest.raises(ValueError, match=r"row 0 \(a+\) is no cell"):
        read_table(path)
    with pytest.raises(DataError, match="cannot be written"):
        save_table(path / "file.npz", table)
    assert "validation_runs" in (problem(replace(table, validation_runs=np.zeros((2, 4, 3)))) or "")
    outside = table.adjacency.copy()
    outside[2, 4, 5] = 1  # an edge between vertices that the cell does not have
    assert "row 2" in (problem(replace(table, adjacency=outside)) or "")
    assert "column hash" in (problem(replace(table, hash=np.array("a"))) or "")
    percent = 100 * table.validation_accuracy
    assert "shares, not percent" in (problem(replace(table, validation_accuracy=percent)) or "")
    save_table(path, table)
    assert read_table(path, label="my own").label == table.label  # it says so itself
    save_table(path, replace(table, label=UNSAID))
    assert read_table(path, label="my own").label == "my own" and read_table(path).label == UNSAID


def test_splits_are_three_permutations_of_one_generator() -> None:
    accuracy = np.linspace(0.7, 0.95, 2000)
    found, state = splits(accuracy), np.random.RandomState(0)
    for size in (172, 334, 860):
        assert found[str(size)].tolist() == state.permutation(2000)[:size].tolist()
        assert found[f"91-{size}"].tolist() == sorted(row for row in found[str(size)] if accuracy[row] > 0.91)
    assert (accuracy[found["denoise-91"]] > 0.91).all() and (accuracy[found["denoise-80"]] > 0.80).all()
    assert len(found["denoise-80"]) == (accuracy > 0.8).sum() and len(found["all"]) == 2000
    percent = splits(100 * accuracy)
    assert all(np.array_equal(percent[name], rows) for name, rows in found.items())


def test_nested_splits_are_nested_and_seeded() -> None:
    found = nested_splits(2000, seed=3)
    assert set(found["nested-172"]) < set(found["nested-334"]) < set(found["nested-860"])
    assert found["nested-172"].tolist() == nested_splits(2000, seed=3)["nested-172"].tolist()
    assert found["nested-172"].tolist() != nested_splits(2000, seed=4)["nested-172"].tolist()
