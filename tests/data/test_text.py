"""Texts: official files as words, rows and pieces as the original cuts them, and one line for what is wrong."""

import os
import zipfile
from itertools import islice
from pathlib import Path

import pytest
import torch

from depthsearch.data.files import DataError
from depthsearch.data.text import (
    END,
    Text,
    batchify,
    generated_text,
    most_frequent,
    pieces,
    read_text,
    sequence_lengths,
    tokens,
)

PARTS = {"train": " the cat sat \n\n on the mat \n", "valid": " the mat sat \n", "test": " the cat on \n the mat "}
NAMES = {"PTB": "ptb.{}.txt", "WikiText-2": "wiki.{}.tokens"}
ROOT = os.environ.get("DEPTHSEARCH_DATA")


def write(folder, name="PTB", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in (PARTS | changes).items():
        (folder / NAMES[name].format(part)).write_text(content, encoding="utf-8")


def words_of(text, part):
    return [text.words[i] for i in getattr(text, part)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inner", ["", "text", "{own}", "text/{own}"])
def test_words_are_numbered_in_order_and_lines_end(tmp_path, name, inner):
    write(tmp_path / inner.format(own={"PTB": "ptb", "WikiText-2": "wikitext-2"}[name]), name)
    text = read_text(name, tmp_path)
    assert text.words == ("the", "cat", "sat", END, "on", "mat") and text.n_words == 6
    assert words_of(text, "train") == ["the", "cat", "sat", END, END, "on", "the", "mat", END]  # an empty line ends too
    assert words_of(text, "valid") == ["the", "mat", "sat", END]
    assert words_of(text, "test") == ["the", "cat", "on", END, "the", "mat", END]
    assert text.train.dtype == torch.int64


def test_a_zip_is_read_as_it_is(tmp_path):
    write(tmp_path / "unpacked")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with zipfile.ZipFile(tmp_path / "ptb.zip", "w") as archive:
        for part in PARTS:
            archive.write(tmp_path / "unpacked" / f"ptb.{part}.txt", f"ptb/ptb.{part}.txt")
    zipped, unpacked = read_text("PTB", tmp_path), read_text("PTB", tmp_path / "unpacked")
    assert zipped.words == unpacked.words and torch.equal(zipped.test, unpacked.test)


def test_what_is_wrong_with_files_is_said_in_a_line(tmp_path):
    def fails(match, name="PTB"):
        with pytest.raises(DataError, match=match) as error:
            read_text(name, tmp_path)
        assert "\n" not in str(error.value)

    fails("no text 'Penn'; there are PTB, WikiText-2", "Penn")
    fails("ptb.train.txt is not in .*get it from Mikolov")
    write(tmp_path)
    (tmp_path / "ptb.test.txt").unlink()
    fails("ptb.test.txt is not in")
    for empty in ("", "\n \n"):
        write(tmp_path, valid=empty)
        fails("ptb.valid.txt is empty")
    write(tmp_path, test="the dog sat\n")
    fails("ptb.test.txt is of another vocabulary than ptb.train.txt: that lacks 'dog'")
    write(tmp_path)
    (tmp_path / "ptb.valid.txt").write_bytes(b"the \xff cat\n")
    fails("ptb.valid.txt is no text in UTF-8")
    (tmp_path / "wikitext-2-v1.zip").write_bytes(b"no zip")
    fails("cannot be read .*is not a zip file.*get it again", "WikiText-2")
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "wikitext-2-v1.zip", "w", packing) as archive:
            archive.writestr("wikitext-2/wiki.train.tokens", "the cat " * 100)
        damaged = bytearray((tmp_path / "wikitext-2-v1.zip").read_bytes())
        damaged[60:70] = b"damaged..."
        (tmp_path / "wikitext-2-v1.zip").write_bytes(damaged)
        fails("cannot be read", "WikiText-2")
    for at, byte in ((6, 1), (8, 99)):  # encrypted; packed in a way that nobody knows
        with zipfile.ZipFile(tmp_path / "wikitext-2-v1.zip", "w") as archive:
            archive.writestr("wikitext-2/wiki.train.tokens", "the cat")
        damaged = bytearray((tmp_path / "wikitext-2-v1.zip").read_bytes())
        damaged[at] = damaged[damaged.index(b"PK\x01\x02") + at + 2] = byte  # here, and in the directory
        (tmp_path / "wikitext-2-v1.zip").write_bytes(damaged)
        fails("cannot be read", "WikiText-2")


def test_another_vocabulary_is_noticed(tmp_path):
    write(tmp_path)
    text = read_text("PTB", tmp_path)
    text.check_vocabulary(text.fingerprint)
    write(tmp_path, train="the cat sat on the big mat\n")
    with pytest.raises(DataError, match="another vocabulary"):
        read_text("PTB", tmp_path).check_vocabulary(text.fingerprint)
    reordered = Text(text.train, text.valid, text.test, text.words[::-1])
    assert reordered.fingerprint != text.fingerprint


@pytest.mark.skipif(not ROOT, reason="DEPTHSEARCH_DATA names no folder of data sets")
def test_official_files_have_the_published_numbers_of_words():
    text = read_text("PTB", Path(str(ROOT)))
    assert (len(text.train), len(text.valid), len(text.test), text.n_words) == (929_589, 73_760, 82_430, 10_000)
    assert [len(tokens("WikiText-2", Path(str(ROOT)), part)) for part in (1, 2)] == [217_646, 245_569]


def test_rows_lie_side_by_side():
    rows = batchify(torch.arange(14), 4)
    assert rows.tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]  # 12 and 13 are left over
    with pytest.raises(DataError, match="a text of 14 words is too short for 5 side by side"):
        batchify(torch.arange(14), 5)


@pytest.mark.parametrize(("n", "read"), [(12, 12), (13, 13), (14, 13)])
def test_pieces_join_to_the_rows_and_each_word_is_followed_by_the_next(n, read):
    rows = torch.arange(2 * n).view(2, n).T
    parts = list(pieces(rows, iter([3, 1, 4, 4, 9])))
    assert torch.equal(torch.cat([x for x, _, _ in parts]), rows[: read - 1])
    assert torch.equal(torch.cat([y for _, y, _ in parts]), rows[1:read])
    assert [length for _, _, length in parts][:3] == [3, 1, 4] and all(len(x) <= length for x, _, length in parts)


def test_lengths_of_pieces():
    lengths = list(islice(sequence_lengths(35, torch.Generator().manual_seed(0)), 20_000))
    assert lengths == list(islice(sequence_lengths(35, torch.Generator().manual_seed(0)), 20_000))
    assert min(lengths) >= 5 and max(lengths) <= 55
    short = [n for n in lengths if n < 26]
    assert len(short) / 20_000 == pytest.approx(0.95 * 0.036 + 0.05 * 0.955, abs=0.01)  # P(N < -1.8), P(N < 1.7)
    usual = torch.tensor([n for n in lengths if n >= 26], dtype=torch.float64)
    assert float(usual.mean()) == pytest.approx(34.9, abs=0.3) and float(usual.std()) == pytest.approx(4.5, abs=0.3)
    assert set(islice(sequence_lengths(35, torch.Generator().manual_seed(0), spread=0), 500)) == {17, 35}
    assert set(islice(sequence_lengths(40, torch.Generator().manual_seed(0), spread=1e6), 50)) == {5, 60}


def test_a_vocabulary_of_the_most_frequent_words():
    train, others = torch.tensor([4, 1, 1, 3, 3, 3, 0, 2, 2, 2, 2]), torch.arange(5)
    text = most_frequent(Text(train, others, others.flip(0), ("a", "b", "<unk>", "d", "e")), 3)
    assert text.words == ("d", "b", "<unk>")  # <unk>, whatever its number, is last and stands for a and e as well
    assert text.train.tolist() == [2, 1, 1, 0, 0, 0, 2, 2, 2, 2, 2]
    assert text.valid.tolist() == [2, 1, 2, 0, 2] and text.test.tolist() == [2, 0, 2, 1, 2]
    whole = generated_text(500, 20)
    small = most_frequent(whole, 6)
    often = torch.bincount(whole.train, minlength=20).tolist()
    kept = sorted(range(20), key=lambda i: -often[i])[:5]
    assert small.words == (*(f"word{i}" for i in kept), "<unk>") and small.fingerprint != whole.fingerprint
    expected = [f"word{i}" if i in kept else "<unk>" for i in whole.test.tolist()]
    assert words_of(small, "test") == expected
    for n_words in (1, 21):
        with pytest.raises(ValueError, match="is cut to 2 to 20 words"):
            most_frequent(whole, n_words)


def test_generated_text_is_seeded_and_predictable():
    text = generated_text(5_000, 20, seed=1)
    assert [len(part) for part in (text.train, text.valid, text.test)] == [5_000, 500, 500] and text.n_words == 20
    assert torch.equal(text.train, generated_text(5_000, 20, seed=1).train)
    assert not torch.equal(text.train, generated_text(5_000, 20, seed=2).train)
    everything = torch.cat([text.train, text.valid, text.test])
    for word in range(20):
        assert len(everything[1:][everything[:-1] == word].unique()) <= 4
