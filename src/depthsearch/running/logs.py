"""What a run logs: TensorBoard events while it learns, `metrics.csv` and `meta_tags.csv` at its end; by test-tube."""

import contextlib
import warnings
from pathlib import Path

# Events that may wait to be written. With TensorBoard's ten, each waits for the writing thread to be switched to: the
# logs of 16 runs of spirals took 8.8 s of processor time, a fifth of a scan of D = 20, and take 2.1 s.
QUEUE = 10_000


class Log:
    """The log of a run folder; its files are made when there is something to log.

    Args:
        folder: `<...>/version_<n>`.

    Attributes:
        tags: of the run, plain values, for `meta_tags.csv`.
    """

    def __init__(self, folder: Path) -> None:
        self.tags: dict = {}
        self._folder, self._n, self._experiment = folder, 0, None

    def show(self, history: list[dict]) -> None:
        """Logs those rows of the history that are new."""
        for row in history[self._n :]:
            words = {name: value for name, value in row.items() if isinstance(value, str)}
            self._open().log({k: v for k, v in row.items() if k not in words}, global_step=row["epoch"])
            for name, text in words.items():
                self._open().add_text(name, text, row["epoch"])
        if len(history) > self._n:
            self._open().flush()
        self._n = len(history)

    def finish(self, history: list[dict]) -> None:
        """Logs what is left, and writes the tables."""
        self.show(history)
        self._open().tag(self.tags)
        self._open().save()
        self.close()

    def close(self) -> None:
        """Ends its writing, so that its files can be removed."""
        if self._experiment is not None:
            with contextlib.suppress(OSError):  # a full disk: what is left is removed
                self._experiment.close()

    def _open(self):
        if self._experiment is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # test-tube 0.7.5 uses calls that Python 3.12 deprecates
                from test_tube import Experiment

                group, name = self._folder.parents[1], self._folder.parent.name
                version = int(self._folder.name.removeprefix("version_"))
                self._experiment = Experiment(str(group), name, version=version, max_queue=QUEUE)
        return self._experiment
