"""What the studies share whose networks are trained one at a time."""

from collections.abc import Sequence
from pathlib import Path


class Alone:
    """A study of one network on one data set, in part what the running wing asks of a study."""

    data_set: str

    @property
    def side_by_side(self) -> int:
        return 1

    @property
    def group(self) -> str:
        return self.data_set

    def show(self, history: Sequence[dict], folder: Path) -> None:
        """Nothing."""
