"""TensorFlow's record files and protocol buffers, read without TensorFlow.

A record is its length (8 bytes, little endian), the masked CRC-32C of those 8 bytes, its bytes, and their masked
CRC-32C; a mask is a rotation and a constant (tensorflow/core/lib/io/record_writer.h). A protocol buffer is a sequence
of fields, each a number, a wire type and a value (protobuf.dev/programming-guides/encoding).
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BATCH = 8192  # records checked at once
_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")
_POLYNOMIAL, _MASK = 0x82F63B78, 0xA282EAD8


def _crc_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_TABLE = _crc_table()


def masked_crc32c(texts: list[bytes]) -> np.ndarray:
    """The masked CRC-32C (n,), uint32, of n byte strings, all at once."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")  # longest first: those not at their end are always the first ones
    padded = np.zeros((int(lengths.max(initial=0)), len(texts)), dtype=np.uint8)
    for column, row in enumerate(order.tolist()):
        padded[: lengths[row], column] = np.frombuffer(texts[row], dtype=np.uint8)
    active = np.searchsorted(-lengths[order], -np.arange(len(padded)), side="left")
    crc = np.full(len(texts), 0xFFFFFFFF, dtype=np.uint32)
    for values, n in zip(padded, active.tolist(), strict=True):
        crc[:n] = _TABLE[(crc[:n] ^ values[:n]) & 0xFF] ^ crc[:n] >> 8
    crc = ~crc
    masked = np.empty_like(crc)
    masked[order] = (crc >> 15 | crc << 17) + np.uint32(_MASK)
    return masked


def read_records(path: str | Path) -> Iterator[bytes]:
    """The records of a file, each checked against both of its checksums.

    Raises:
        ValueError: the file is missing, ends within a record, or a checksum is wrong; says at which record.
    """
    path, done = Path(path), 0
    if not path.is_file():
        raise ValueError(f"{path} is missing: there is no record file to read")
    with path.open("rb") as file:
        while True:
            headers, records, sums = [], [], []
            stop = None
            while len(records) < BATCH and stop is None:
                stop = _read_one(file, headers, records, sums)
            _check(path, done, headers, records, sums)
            yield from records
            done += len(records)
            if stop == "end":
                return
            if stop is not None:
                raise ValueError(f"{path} ends within record {done + 1}: it is truncated, download it again")


def _read_one(file, headers: list[bytes], records: list[bytes], sums: list[int]) -> str | None:
    header = file.read(_HEADER.size)
    if not header:
        return "end"
    if len(header) < _HEADER.size:
        return "truncated"
    length, _ = _HEADER.unpack(header)
    headers.append(header)
    if length > 2**31:  # no record is: its header is damaged, which its checksum will say
        return "truncated"
    body = file.read(length + _FOOTER.size)
    if len(body) < length + _FOOTER.size:
        return "truncated"
    records.append(body[:length])
    sums.append(_FOOTER.unpack_from(body, length)[0])
    return None


def _check(path: Path, done: int, headers: list[bytes], records: list[bytes], sums: list[int]) -> None:
    if not headers:
        return
    wrong = masked_crc32c([header[:8] for header in headers]) != [_HEADER.unpack(header)[1] for header in headers]
    if records:
        wrong[: len(records)] |= masked_crc32c(records) != np.array(sums, dtype=np.uint32)
    if wrong.any():
        raise ValueError(f"{path}: record {done + int(wrong.argmax()) + 1} is damaged, its checksum is wrong: "
                         "download the file again")  # fmt: skip


Value = int | float | bytes


def read_fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """The fields of a protocol buffer: number and value, an int (varint), a float (64 bits, a double) or bytes.

    Raises:
        ValueError: the bytes are no protocol buffer.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            if at + size > len(message):
                raise ValueError("a protocol buffer ends within a number")
            value, at = struct.unpack_from("<d" if wire == 1 else "<f", message, at)[0], at + size
        elif wire == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a protocol buffer ends within a field")
            value, at = message[at : at + length], at + length
        else:
            raise ValueError(f"wire type {wire} does not exist: this is no protocol buffer")
        yield number, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a protocol buffer ends within a number")
