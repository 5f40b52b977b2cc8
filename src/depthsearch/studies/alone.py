"""What studies share: what holds unless one says otherwise, and how any is made from saved values."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar


class Alone:
    """A study whose repeats learn alone, on one data set: a part of what the running wing asks of a study."""

    data_set: str
    uses_gpu: ClassVar[bool] = True

    @property
    def side_by_side(self) -> int:
        return 1

    @property
    def group(self) -> str:
        return self.data_set

    def show(self, history: Sequence[dict], folder: Path) -> None:
        """Nothing."""


def fields_in(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """What of the values are fields of a dataclass, or of an instance of one."""
    return {f.name: values[f.name] for f in dataclasses.fields(kind) if f.name in values}
