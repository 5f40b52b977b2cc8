"""A scan on a Slurm cluster: N workers as one array, through submitit. They share the results folder as any others do.

submitit keeps its scripts, logs and pickles outside the results folder, in `FOLDER`: nothing in results is unpickled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.helpers import DelayedSubmission

FOLDER = "slurm"  # beside src


@dataclass(frozen=True)
class Array:
    """What is asked of Slurm.

    Attributes:
        partition: its name.
        jobs: how many.
        minutes: after which Slurm ends a job; it is put in the queue again.
        gpus, cpus: of each job.
    """

    partition: str
    jobs: int
    minutes: int
    gpus: int
    cpus: int

    def parameters(self, name: str) -> dict:
        """As submitit wants them."""
        return {
            "name": name,
            "timeout_min": self.minutes,
            "cpus_per_task": self.cpus,
            "slurm_partition": self.partition,
            "slurm_array_parallelism": self.jobs,
            "slurm_additional_parameters": {"requeue": True},
        } | ({"gpus_per_node": self.gpus} if self.gpus else {})


class _Share:
    # One job. Where Slurm is about to end it, submitit calls `checkpoint` and puts what that returns in the queue.
    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work

    def __call__(self) -> None:
        self.work()

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(self)


def submit(array: Array, name: str, folder: Path, work: Callable[[], None]) -> list[str]:
    """Puts an array of jobs that call `work` in the queue; returns their ids.

    Raises:
        RuntimeError, submitit.core.utils.FailedJobError: there is no Slurm here, or it refuses.
    """
    executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=10_000)
    executor.update_parameters(**array.parameters(name))
    with executor.batch():
        jobs = [executor.submit(_Share(work)) for _ in range(array.jobs)]
    return [job.job_id for job in jobs]
