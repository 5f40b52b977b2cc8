"""What the running wing asks of the work that it runs, and nothing more: it knows no science.

A *study* is one setting of an experiment. It makes a *learner* of some of its repeats, which is driven epoch by epoch,
checkpointed and resumed, and it evaluates what that has *learned*. A seed is the number of a repeat.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import nn


class Problem(argparse.ArgumentTypeError):
    """Bad input: one line that says what is wrong and what to do. A script ends with status 2.

    It may be raised from the `type` of a command line's argument, too.
    """


class Learned(Protocol):
    """What has come out of one repeat."""

    @property
    def history(self) -> list[dict]:
        """Rows of what was logged, each with its `epoch`."""
        ...

    def state(self) -> dict[str, nn.Module]:
        """The modules whose state is saved, by name."""
        ...


class Learner(Protocol):
    """Repeats of one study that learn side by side."""

    def epochs(self) -> Iterator[int]:
        """Learns; yields the number of each epoch when it is done. Where it was resumed, it goes on from there."""
        ...

    def checkpoint(self) -> list[dict]:
        """For each repeat what it takes to go on: plain values and tensors on the CPU, `epoch` among them."""
        ...

    def progress(self) -> str:
        """How it goes, in a few words."""
        ...

    def histories(self) -> list[list[dict]]:
        """For each repeat what was logged so far, as in `Learned`."""
        ...

    def learned(self) -> Sequence[Learned]:
        """For each repeat what has come out, once `epochs` has ended."""
        ...

    def about(self) -> dict:
        """How it was done, where that is no part of the configuration: plain values for `config.json`."""
        ...


class Study(Protocol):
    """One setting of an experiment.

    Attributes:
        required: keys of a sound summary.
        uses_gpu: whether its work is for a GPU where there is one; if not, a scan has the cores of the CPU.
        side_by_side: repeats that learn together, at most.
        threads: how many its work takes on a CPU, so that its numbers are the same however it is launched; None for as
            many as the machine has for it, where numbers may differ in their last digits.
        group: the folder of its runs under that of the scan: the data set.
        most_epochs: of a learner.
        cost: of a run, for the order of work; any unit.
    """

    required: ClassVar[frozenset[str]]
    uses_gpu: ClassVar[bool]

    @property
    def side_by_side(self) -> int: ...
    @property
    def threads(self) -> int | None: ...
    @property
    def group(self) -> str: ...
    @property
    def most_epochs(self) -> int: ...
    @property
    def cost(self) -> float: ...

    def configuration(self) -> dict:
        """All that makes runs comparable, as plain values; its hash is in the name of the folder."""
        ...

    def title(self) -> str:
        """The readable part of the name of the folder."""
        ...

    def problem(self, data: Path | None = None) -> str | None:
        """What is wrong with it, in a line; with a folder of data, whether what it needs is there, too."""
        ...

    def learner(self, seeds: Sequence[int], device: torch.device, data: Path, resume: Sequence[dict]) -> Learner:
        """Of these repeats; `resume` holds their checkpoints, of one epoch, or nothing."""
        ...

    def evaluate(self, learned: Any, seed: int, device: torch.device, data: Path) -> dict:
        """The summary of a repeat: plain values."""
        ...

    def show(self, history: Sequence[dict], folder: Path) -> None:
        """Puts into a run folder what is to be seen of a repeat besides its log, from what was logged so far."""
        ...

    def said(self, summaries: Sequence[dict]) -> str:
        """What came out of some repeats, in a few words."""
        ...

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Adds the options of this kind of study to a command line."""
        ...

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        """The studies that these options make of a grid; `options.devices` are those of the work, `auto` is resolved.

        Raises:
            Problem: an option makes no sense.
        """
        ...


def fingerprint(configuration: dict) -> str:
    """Eight hexadecimal digits of a configuration, whatever the order of its keys."""
    text = json.dumps(configuration, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def folder_name(study: Study) -> str:
    """Of the runs of a study: runs of one configuration lie in one folder, runs of two never do."""
    return f"{study.title()}-{fingerprint(study.configuration())}"
