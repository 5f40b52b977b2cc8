"""The hash by which NAS-Bench-101 names a cell (Ying et al. 2019, arXiv 1902.09635, section 2.2), for one cell or many.

Every vertex starts with the MD5 of (edges out, edges in, operation); as many times as there are vertices, each takes the
MD5 of its own and its neighbours' digests; the cell's is the MD5 of the sorted ones of its vertices. Isomorphic cells
agree, and so do the few that this refinement cannot tell apart: the benchmark counts them as one.
"""

import hashlib
import math

import numpy as np

CHUNK = 16384  # messages hashed at once: their state fits a core's cache
_SHIFTS = np.array([[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]], dtype=np.uint32)
_SHIFTS = np.repeat(_SHIFTS, 4, axis=0).ravel()
_SINES = np.array([int(abs(math.sin(i + 1)) * 2**32) for i in range(64)], dtype=np.uint32)
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype=np.uint8).reshape(256, 2)


def hash_of_graph(adjacency: np.ndarray, labels: list[int]) -> str:
    """The hash of one graph: adjacency (V, V), entry (i, j) the edge i -> j; labels -1 input, -2 output, else operation."""
    adjacency = np.asarray(adjacency).astype(bool)
    n = len(labels)
    heads = [[j for j in range(n) if adjacency[i, j]] for i in range(n)]
    tails = [[i for i in range(n) if adjacency[i, j]] for j in range(n)]
    digests = [_md5(str((len(heads[v]), len(tails[v]), int(labels[v])))) for v in range(n)]
    for _ in range(n):
        near = [["".join(sorted(digests[w] for w in ws)) for ws in (tails[v], heads[v])] for v in range(n)]
        digests = [_md5(f"{before}|{after}|{own}") for (before, after), own in zip(near, digests, strict=True)]
    return _md5(str(sorted(digests)))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def hashes_of_graphs(adjacency: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The hashes (n,), text, of graphs of one size: adjacency (n, V, V), labels (n, V). As `hash_of_graph`, in batches."""
    size = max(1, CHUNK // max(1, labels.shape[1]))
    rows = [slice(start, start + size) for start in range(0, len(labels), size)]
    parts = [_hashes(adjacency[r].astype(bool), labels[r].astype(np.int64)) for r in rows]
    return np.concatenate(parts) if parts else np.empty(0, dtype="U32")


def _hashes(adjacency: np.ndarray, labels: np.ndarray) -> np.ndarray:
    n, size = labels.shape
    out_edges, in_edges = adjacency.sum(2), adjacency.sum(1)
    starts, which = np.unique(np.stack([out_edges, in_edges, labels], -1).reshape(-1, 3), axis=0, return_inverse=True)
    texts = np.array([list(_md5(str(tuple(start))).encode()) for start in starts.tolist()], dtype=np.uint8)
    digests = texts[which.reshape(n, size)]  # (n, V, 32): hexadecimal, as bytes
    for _ in range(size):
        digests = _refined(digests, adjacency)
    inside = np.full((n, size, 36), 32, dtype=np.uint8)  # "'digest', "
    inside[:, :, 0], inside[:, :, 33], inside[:, :, 34] = ord("'"), ord("'"), ord(",")
    inside[:, :, 1:33] = np.take_along_axis(digests, _order(digests)[:, :, None], 1)
    text = np.full((n, 36 * size), ord("["), dtype=np.uint8)
    text[:, 1:] = inside.reshape(n, -1)[:, :-1]
    text[:, -1] = ord("]")
    return np.ascontiguousarray(_hex(md5(text))).view("S32").ravel().astype("U32")


def _refined(digests: np.ndarray, adjacency: np.ndarray) -> np.ndarray:
    """One round: digests (n, V, 32) and adjacency (n, V, V), booleans -> digests (n, V, 32)."""
    n, size, _ = digests.shape
    order = _order(digests)
    ranked = np.take_along_axis(digests, order[:, :, None], 1)
    tails = np.take_along_axis(adjacency, order[:, :, None], 1).transpose(0, 2, 1).reshape(n * size, size)
    heads = np.take_along_axis(adjacency, order[:, None, :], 2).reshape(n * size, size)
    own, cell = digests.reshape(n * size, 32), np.repeat(np.arange(n), size)
    kinds = tails.sum(1) * (size + 1) + heads.sum(1)  # messages of one length are hashed together
    refined = np.empty_like(own)
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        bar = np.full((len(rows), 1), ord("|"), dtype=np.uint8)
        near = [ranked[cell[rows, None], _where(side[rows])].reshape(len(rows), -1) for side in (tails, heads)]
        refined[rows] = _hex(md5(np.concatenate([near[0], bar, near[1], bar, own[rows]], 1)))
    return refined.reshape(n, size, 32)


def _where(chosen: np.ndarray) -> np.ndarray:
    # (m, V) booleans, equally many true in every row -> their columns (m, number of them), in order.
    return np.nonzero(chosen)[1].reshape(len(chosen), -1)


def _order(digests: np.ndarray) -> np.ndarray:
    # Sixteen digits tell digests apart: of 3 million vertices two differ in the rest only with probability 1e-6.
    halves = np.ascontiguousarray(digests[:, :, :16]).view(">u8").reshape(*digests.shape[:2], 2)
    return np.lexsort((halves[:, :, 1], halves[:, :, 0]), axis=1)


def _hex(digests: np.ndarray) -> np.ndarray:
    return _HEX[digests].reshape(len(digests), 32)


def md5(messages: np.ndarray) -> np.ndarray:
    """MD5 (RFC 1321) of many messages of one length: (n, length) bytes -> (n, 16) bytes."""
    n, length = messages.shape
    padded = np.zeros((n, (length + 8) // 64 * 64 + 64), dtype=np.uint8)
    padded[:, :length], padded[:, length] = messages, 0x80
    padded[:, -8:] = np.frombuffer((8 * length).to_bytes(8, "little"), dtype=np.uint8)
    words = np.ascontiguousarray(padded.view("<u4").T)  # (16 a block, n)
    state = [np.full(n, start, dtype=np.uint32) for start in _START]
    for block in range(0, len(words), 16):
        added = _md5_block(*state, words[block : block + 16])
        state = [old + new for old, new in zip(state, added, strict=True)]
    return np.stack(state, 1).astype("<u4").view(np.uint8)


def _md5_block(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, ...]:
    for i in range(64):
        if i < 16:
            f, word = d ^ (b & (c ^ d)), i
        elif i < 32:
            f, word = c ^ (d & (b ^ c)), (5 * i + 1) % 16
        elif i < 48:
            f, word = b ^ c ^ d, (3 * i + 5) % 16
        else:
            f, word = c ^ (b | ~d), 7 * i % 16
        f += a
        f += words[word]
        f += _SINES[i]
        turned = f << _SHIFTS[i]
        f >>= 32 - _SHIFTS[i]
        turned |= f
        turned += b
        a, b, c, d = d, turned, b, c
    return a, b, c, d
