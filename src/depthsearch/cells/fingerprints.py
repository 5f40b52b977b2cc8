"""The hash by which NAS-Bench-101 names a cell (Ying et al. 2019, arXiv 1902.09635, section 2.2), of one cell or many.

Every vertex starts with the MD5 of (edges out, edges in, operation); as many times as there are vertices, each takes
the MD5 of its own and its neighbours' digests; the cell's is the MD5 of the sorted ones of its vertices. Isomorphic
cells agree, and so do the few that this refinement cannot tell apart: the benchmark counts them as one.
"""

import hashlib
import math

import numpy as np

CELLS, MESSAGES = 16384, 8192  # hashed at once: the state of a digest in the making fits a core's cache
_SHIFTS = np.array([[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]], dtype=np.uint32)
_SHIFTS = np.repeat(_SHIFTS, 4, axis=0).ravel()
_SINES = np.array([int(abs(math.sin(i + 1)) * 2**32) for i in range(64)], dtype=np.uint32)
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_HEX = np.frombuffer(
    "".join(f"{i % 256:02x}{i // 256:02x}" for i in range(2**16)).encode(), dtype="<u4"
)  # of two bytes


def hash_of_graph(adjacency: np.ndarray, labels: list[int]) -> str:
    """The hash of one graph: adjacency (V, V), entry (i, j) the edge i -> j; labels -1 input, -2 output, else an id."""
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
    """`hash_of_graph` in batches: the hashes (n,), text, of graphs of one size, adjacency (n, V, V), labels (n, V)."""
    rows = [slice(start, start + CELLS) for start in range(0, len(labels), CELLS)]
    parts = [_hashes(adjacency[r].astype(bool), labels[r].astype(np.int64)) for r in rows]
    return np.concatenate(parts) if parts else np.empty(0, dtype="U32")


def _hashes(adjacency: np.ndarray, labels: np.ndarray) -> np.ndarray:
    n, size = labels.shape
    out_edges, in_edges = adjacency.sum(2), adjacency.sum(1)
    kinds, which = np.unique((out_edges * size + in_edges) * 256 + labels + 128, return_inverse=True)
    starts = [(k // 256 // size, k // 256 % size, k % 256 - 128) for k in kinds.tolist()]
    texts = np.array([list(_md5(str(start)).encode()) for start in starts], dtype=np.uint8)
    digests = texts[which.reshape(n, size)]  # (n, V, 32): hexadecimal, as bytes
    for _ in range(size):
        digests = _refined(digests, adjacency)
    inside = np.full((n, size, 36), 32, dtype=np.uint8)  # "'digest', "
    inside[:, :, 0], inside[:, :, 33], inside[:, :, 34] = ord("'"), ord("'"), ord(",")
    inside[:, :, 1:33] = _sorted(digests, _order(digests))
    text = np.full((n, 36 * size), ord("["), dtype=np.uint8)
    text[:, 1:] = inside.reshape(n, -1)[:, :-1]
    text[:, -1] = ord("]")
    return np.ascontiguousarray(_hex(md5(text))).view("S32").ravel().astype("U32")


def _refined(digests: np.ndarray, adjacency: np.ndarray) -> np.ndarray:
    """One round: digests (n, V, 32) and adjacency (n, V, V), booleans -> digests (n, V, 32)."""
    n, size, _ = digests.shape
    order = _order(digests)
    ranked = _sorted(digests, order)
    tails = np.take_along_axis(adjacency, order[:, :, None], 1).transpose(0, 2, 1).reshape(n * size, size)
    heads = np.take_along_axis(adjacency, order[:, None, :], 2).reshape(n * size, size)
    own, cell = digests.reshape(n * size, 32), np.repeat(np.arange(n), size)
    kinds = tails.sum(1) * (size + 1) + heads.sum(1)  # messages of one length are hashed together
    refined = np.empty_like(own)
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        bar = np.full((len(rows), 1), ord("|"), dtype=np.uint8)
        near = [_words(ranked)[cell[rows, None], _where(side[rows])] for side in (tails, heads)]
        before, after = (words.view(np.uint8).reshape(len(rows), -1) for words in near)
        refined[rows] = _hex(md5(np.concatenate([before, bar, after, bar, own[rows]], 1)))
    return refined.reshape(n, size, 32)


def _where(chosen: np.ndarray) -> np.ndarray:
    # (m, V) booleans, equally many true in every row -> their columns (m, number of them), in order.
    return np.nonzero(chosen)[1].reshape(len(chosen), -1)


def _words(digests: np.ndarray) -> np.ndarray:
    return digests.view(np.uint64)  # (n, V, 4): a digest is moved as four words, not as 32 bytes


def _sorted(digests: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.take_along_axis(_words(digests), order[:, :, None], 1).view(np.uint8)


def _order(digests: np.ndarray) -> np.ndarray:
    # Sixteen digits tell digests apart: of 3 million vertices two differ in the rest only with probability 1e-6.
    halves = np.ascontiguousarray(digests[:, :, :16]).view(">u8").reshape(*digests.shape[:2], 2)
    return np.lexsort((halves[:, :, 1], halves[:, :, 0]), axis=1)


def _hex(digests: np.ndarray) -> np.ndarray:
    return _HEX[digests.view("<u2")].view(np.uint8)


def md5(messages: np.ndarray) -> np.ndarray:
    """MD5 (RFC 1321) of many messages of one length: (n, length) bytes -> (n, 16) bytes."""
    n, length = messages.shape
    padded = np.zeros((n, (length + 8) // 64 * 64 + 64), dtype=np.uint8)
    padded[:, :length], padded[:, length] = messages, 0x80
    padded[:, -8:] = np.frombuffer((8 * length).to_bytes(8, "little"), dtype=np.uint8)
    digests = np.empty((n, 4), dtype="<u4")
    for rows in (slice(start, start + MESSAGES) for start in range(0, n, MESSAGES)):
        words = np.ascontiguousarray(padded[rows].view("<u4").T)  # (16 a block, messages)
        state = [np.full(words.shape[1], start, dtype=np.uint32) for start in _START]
        for block in range(0, len(words), 16):
            added = _md5_block(state, words[block : block + 16])
            state = [old + new for old, new in zip(state, added, strict=True)]
        digests[rows] = np.stack(state, 1)
    return digests.view(np.uint8)


def _md5_block(state: list[np.ndarray], words: np.ndarray) -> tuple[np.ndarray, ...]:
    a, b, c, d = state
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
