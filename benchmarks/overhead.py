"""What checkpoints and leases cost a spiral scan: the time spent in them against all of its time, in one run.

    python overhead.py [--depths 5 20 50] [--epochs 4000]

Counted are taking, checking, renewing (in its thread, though training goes on meanwhile) and releasing leases, looking
for checkpoints, and all that is done at the end of an epoch: making, writing and syncing them every 30 s.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import torch

from depthsearch.hardware import benchmark_header
from depthsearch.running import jobs
from depthsearch.running.folders import Reservation
from depthsearch.running.jobs import Job, train_missing
from depthsearch.running.leases import Lease
from depthsearch.studies.spirals import Spirals

spent: dict[str, float] = {}
_inside = threading.local()


def timed(name: str, function):
    """`function`, its time added to `spent`; what it calls itself is not counted twice."""

    def wrapped(*args, **kwargs):
        if getattr(_inside, "some", False):
            return function(*args, **kwargs)
        _inside.some, start = True, time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
            _inside.some = False

    return wrapped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--epochs", type=int, default=4000)
    options = parser.parse_args()
    jobs._Kept.after = timed("end of epochs, checkpoints", jobs._Kept.after)
    jobs.reserve = timed("taking leases", jobs.reserve)
    Reservation.release = timed("releasing leases", Reservation.release)
    Reservation.saved = timed("looking for checkpoints", Reservation.saved)
    Lease.check = timed("checking leases", Lease.check)
    Lease.renew = timed("renewing leases", Lease.renew)

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as results:
        for depth in options.depths:
            study = Spirals(max_depth=depth, epochs=options.epochs)
            folders = [Path(results) / str(depth) / f"version_{repeat}" for repeat in range(4)]
            job = Job("overhead", study, "max_depth", folders, torch.device("cpu"), Path(), threads=1)
            train_missing(job, lambda epoch, line: None, lambda: False)
    seconds = time.perf_counter() - start
    print(benchmark_header(torch.device("cpu")))
    print(f"spirals, D = {options.depths}, 4 repeats, {options.epochs} epochs: {seconds:.1f} s")
    for name, value in spent.items():
        print(f"{name:28} {value:7.3f} s  {100 * value / seconds:6.3f} %")
    print(f"{'checkpoints and leases':28} {sum(spent.values()):7.3f} s  {100 * sum(spent.values()) / seconds:6.3f} %")


if __name__ == "__main__":
    main()
