"""A learner whose epochs are parts of some work, each done for all repeats at once: what needs no training loop."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from depthsearch.hardware import describe

Parts = Mapping[str, Callable[[list[dict]], list[dict]]]  # a part adds to what was found, of each repeat


@dataclass(frozen=True)
class Done:
    """What was found of a repeat, plain values by name."""

    found: dict
    history: list[dict]

    def state(self) -> dict[str, nn.Module]:
        """Nothing is kept."""
        return {}


class InParts:
    """Does the parts in order.

    Args:
        parts: of each its name, and a function of what was found so far, a dictionary a repeat, that returns what is to
            be added to it: plain values.
        n: repeats.
        resume: their checkpoints, or nothing.
    """

    def __init__(self, parts: Parts, n: int, resume: Sequence[dict] = ()) -> None:
        self._parts = parts
        self._epoch: int = resume[0]["epoch"] if resume else 0
        self._found: list[dict] = [dict(saved["found"]) for saved in resume] or [{} for _ in range(n)]

    def epochs(self) -> Iterator[int]:
        for part in list(self._parts.values())[self._epoch :]:
            for own, new in zip(self._found, part(self._found), strict=True):
                own |= new
            self._epoch += 1
            yield self._epoch

    def checkpoint(self) -> list[dict]:
        return [{"epoch": self._epoch, "found": dict(own)} for own in self._found]

    def progress(self) -> str:
        return f"done: {list(self._parts)[self._epoch - 1]}" if self._epoch else ""

    def histories(self) -> list[list[dict]]:
        names = list(self._parts)[: self._epoch]
        return [[{"epoch": epoch, "part": name} for epoch, name in enumerate(names, start=1)] for _ in self._found]

    def learned(self) -> list[Done]:
        return [Done(own, rows) for own, rows in zip(self._found, self.histories(), strict=True)]

    def about(self) -> dict:
        """Whatever device was asked for: such work is for a CPU."""
        return {"device": describe(torch.device("cpu"))}
