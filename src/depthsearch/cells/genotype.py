"""Architectures of cells as values: checked when they are made, written and read as JSON, the published ones by name.

A genotype of a convolutional cell lists edges (operation, state that it reads), two a node. States 0 and 1 are the
outputs of the two cells before; node i, counted from 0, is state i + 2 and adds up its two edges. A genotype of a
recurrent cell lists one (activation, predecessor) a node; state 0 is what the cell makes of its input, node i,
counted from 1, is state i. (DARTS, arXiv 1806.09055, section 2.1, appendix A.)
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, overload

import torch

from depthsearch.cells.published import PUBLISHED

Edges = tuple[tuple[str, int], ...]

# DARTS chooses among the first eight, in this order; the last two are NASNet's and AmoebaNet's.
CELL_OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "sep_conv_7x7",
    "conv_7x1_1x7",
)
ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
N_NODES = 8  # of a recurrent cell that is searched
RANDOM = "random:"  # and a seed: the name of a random cell


@dataclass(frozen=True)
class CellGenotype:
    """A normal and a reduction cell. `normal_concat` and `reduce_concat` are the states that make up the output.

    Raises:
        ValueError: an operation is unknown, a state is read before it is computed, a number of edges is not even.
    """

    normal: Edges
    normal_concat: tuple[int, ...]
    reduce: Edges
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for cell in ("normal", "reduce"):
            edges = _edges(getattr(self, cell), cell, CELL_OPERATIONS, "operation")
            if not edges or len(edges) % 2:
                raise ValueError(f"genotype, {cell}: {len(edges)} edges; a cell has two edges a node")
            for i, (name, state) in enumerate(edges):
                _computed(state, i // 2 + 2, f"{cell}, edge {i} ({name})")
            _freeze(self, cell, edges)
            _freeze(self, f"{cell}_concat", _concat(self, f"{cell}_concat", 2, len(edges) // 2 + 2))

    def to_json(self) -> str:
        """JSON text that `genotype` reads."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class RecurrentGenotype:
    """A recurrent cell, whose output is the mean of the states in `concat`.

    Raises:
        ValueError: an activation is unknown, or a state is read before it is computed.
    """

    recurrent: Edges
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        edges = _edges(self.recurrent, "recurrent", ACTIVATIONS, "activation")
        if not edges:
            raise ValueError("genotype, recurrent: no nodes; a cell has at least one")
        for i, (name, state) in enumerate(edges):
            _computed(state, i + 1, f"recurrent, node {i + 1} ({name})")
        _freeze(self, "recurrent", edges)
        _freeze(self, "concat", _concat(self, "concat", 1, len(edges) + 1))

    def to_json(self) -> str:
        """JSON text that `genotype` reads."""
        return json.dumps(asdict(self))


def _freeze(value: object, name: str, items: tuple) -> None:
    object.__setattr__(value, name, items)  # a frozen dataclass; lists, as JSON gives them, become tuples


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_state(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _edges(edges: Any, where: str, names: Sequence[str], kind: str) -> Edges:
    if not _is_list(edges) or not all(_is_list(edge) and len(edge) == 2 for edge in edges):
        raise ValueError(f"genotype, {where}: must be a list of pairs [{kind}, state]")
    for name, state in edges:
        if name not in names:
            raise ValueError(f"genotype, {where}: unknown {kind} {name!r}; one of {', '.join(names)}")
        if not _is_state(state):
            raise ValueError(f"genotype, {where}: a state is a whole number, not {state!r}")
    return tuple((name, state) for name, state in edges)


def _computed(state: int, n_states: int, where: str) -> None:
    if not 0 <= state < n_states:
        raise ValueError(
            f"genotype, {where}: reads state {state}; only states 0 to {n_states - 1} are computed by then"
        )


def _concat(value: object, name: str, first: int, end: int) -> tuple[int, ...]:
    states = getattr(value, name)
    if not _is_list(states) or not states or not all(_is_state(s) and first <= s < end for s in states):
        raise ValueError(f"genotype, {name}: must be a list of states from {first} to {end - 1}, not {states!r}")
    if len(set(states)) < len(states):
        raise ValueError(f"genotype, {name}: a state is listed twice in {states!r}")
    return tuple(states)


Genotype = CellGenotype | RecurrentGenotype
GenotypeT = TypeVar("GenotypeT", CellGenotype, RecurrentGenotype)
_LARGEST = 2**63 - 1  # of the seeds that torch takes
_KINDS = {CellGenotype: "a convolutional cell", RecurrentGenotype: "a recurrent cell"}


@overload
def genotype(value: object, kind: type[GenotypeT]) -> GenotypeT: ...
@overload
def genotype(value: object, kind: None = None) -> Genotype: ...
def genotype(value: object, kind: type[Genotype] | None = None) -> Genotype:
    """An architecture from whatever names it.

    Args:
        value: a name of `GENOTYPES`, `random:SEED` for a random cell of the kind, JSON text, a mapping with the keys of
            the JSON text, the path of a JSON file or of a folder that holds a `genotype.json`, or a genotype.
        kind: `CellGenotype` or `RecurrentGenotype` where only that will do.

    Raises:
        ValueError: it is none of these, or no sound architecture, or of another kind.
    """
    found = _read(value, kind)
    if kind is not None and not isinstance(found, kind):
        known = ", ".join(name for name, one in GENOTYPES.items() if isinstance(one, kind))
        raise ValueError(f"this is the genotype of {_KINDS[type(found)]}; {_KINDS[kind]} is needed, as {known}")
    return found


def _read(value: object, kind: type[Genotype] | None) -> Genotype:
    if isinstance(value, CellGenotype | RecurrentGenotype):
        return value
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if isinstance(value, str) and value in GENOTYPES:
        return GENOTYPES[value]
    if isinstance(value, str) and value.startswith(RANDOM) and (seed := value.removeprefix(RANDOM)).isdecimal():
        if len(seed) > len(str(_LARGEST)) or int(seed) > _LARGEST:
            raise ValueError(f"genotype {RANDOM}SEED: the seed must be {_LARGEST} or less")
        draw = random_recurrent_genotype if kind is RecurrentGenotype else random_cell_genotype
        return draw(int(seed))
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        return _from_json(value, "genotype")
    if isinstance(value, str | PathLike):
        return _from_json(_text_of(Path(value)), str(value))
    raise ValueError(f"a genotype is a name, JSON text, a mapping or a file, not {type(value).__name__}")


def _text_of(path: Path) -> str:
    try:
        path = path / "genotype.json" if path.is_dir() else path
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):  # ValueError: not UTF-8, or a path with a null character
        names = ", ".join(GENOTYPES)
        kinds = f"neither a file that can be read nor one of {names}, {RANDOM}SEED"
        raise ValueError(f"no genotype {str(path)!r}: {kinds}") from None


def _from_json(text: str, where: str) -> Genotype:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, or a number of thousands of digits
        raise ValueError(f"{where}: not JSON ({error})") from None
    return _from_mapping(value)


def _from_mapping(value: object) -> Genotype:
    keys = {kind: [field.name for field in fields(kind)] for kind in _KINDS}
    if isinstance(value, Mapping):
        for kind, names in keys.items():
            if set(value) == set(names):
                return kind(**value)
    wanted = " or ".join(", ".join(names) for names in keys.values())
    got = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
    raise ValueError(f"a genotype has the keys {wanted}; got {got or 'none'}")


GENOTYPES: dict[str, Genotype] = {name: _from_mapping(value) for name, value in PUBLISHED.items()}


def random_cell_genotype(seed: int) -> CellGenotype:
    """A normal and a reduction cell of the DARTS space at random: for each of four nodes two different earlier states,
    for each edge one of the seven operations that are not `none`, all alike probable."""
    generator = random.Random(seed)

    def edges() -> Edges:
        read = [state for node in range(4) for state in sorted(generator.sample(range(node + 2), 2))]
        return tuple((generator.choice(CELL_OPERATIONS[1:8]), state) for state in read)

    return CellGenotype(edges(), (2, 3, 4, 5), edges(), (2, 3, 4, 5))


def random_recurrent_genotype(seed: int) -> RecurrentGenotype:
    """A cell of the recurrent space at random: for each node an earlier state and an activation, all alike probable."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    nodes = tuple((ACTIVATIONS[draw(len(ACTIVATIONS))], draw(node)) for node in range(1, N_NODES + 1))
    return RecurrentGenotype(nodes, tuple(range(1, N_NODES + 1)))
