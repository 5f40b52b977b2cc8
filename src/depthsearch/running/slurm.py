"""A scan on a Slurm cluster: N workers as one array, through submitit. They share the results folder as any others do.

submitit keeps its scripts, logs and pickles outside the results folder, in `FOLDER`: nothing in results is unpickled.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthsearch.running.study import Problem

FOLDER = "slurm"  # beside src
INTERRUPTED = 130  # exit status of a scan that was


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
        parameters: dict = {
            "name": name,
            "timeout_min": self.minutes,
            "cpus_per_task": self.cpus,
            "slurm_partition": self.partition,
            "slurm_array_parallelism": self.jobs,
            "slurm_additional_parameters": {"requeue": True},
            "slurm_srun_args": [f"--cpus-per-task={self.cpus}"],  # since 22.05 srun does not take it from sbatch
        }
        if self.gpus:
            return parameters | {"gpus_per_node": self.gpus}
        return parameters | {"slurm_setup": ["export CUDA_VISIBLE_DEVICES="]}  # some clusters show them all


class _Share:
    # One job. Where Slurm is about to end it, submitit calls `checkpoint` and puts what that returns in the queue.
    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work

    def __call__(self) -> None:
        try:
            self.work()
        except SystemExit as end:
            # Stopped by SIGTERM, which comes before a preemption: the job has to be there for what puts it back into
            # the queue, submitit's SIGUSR2 or Slurm itself.
            while end.code == INTERRUPTED:
                signal.pause()
            raise

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(array: Array, name: str, folder: Path, work: Callable[[], None]) -> list[str]:
    """Puts an array of jobs that call `work` in the queue; returns their ids.

    Raises:
        Problem: there is no Slurm here, or it refuses.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    try:
        executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=10_000)
        executor.update_parameters(**array.parameters(name))
        with executor.batch():
            jobs = [executor.submit(_Share(work)) for _ in range(array.jobs)]
    except (RuntimeError, FailedJobError) as refused:
        raise Problem(f"Slurm does not take the jobs ({' '.join(str(refused).split())})") from None
    return [job.job_id for job in jobs]
