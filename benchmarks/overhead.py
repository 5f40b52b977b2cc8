"""What checkpoints and leases cost a spiral scan: the time spent in them against all of its time, in one run.

    python overhead.py [--depths 5 20 50] [--epochs 4000] [--every 1]

Counted are taking, checking, renewing (in its thread, though training goes on meanwhile) and releasing leases, looking
for checkpoints, the end of an epoch, and making, writing and syncing them: every second, so that there are some, and
their share is also given for one in 30 s, as scans have it.
"""

import argparse
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import torch

from depthsearch.hardware import benchmark_header
from depthsearch.running import jobs
from depthsearch.running.folders import Reservation
from depthsearch.running.jobs import Job, train_missing
from depthsearch.running.leases import Lease
from depthsearch.studies.spirals import Spirals

ENDS, CHECKPOINTS = "ends of epochs", "checkpoints"
IN_SCANS = 30.0  # seconds between checkpoints
write_where_due = jobs._Kept.after
spent: dict[str, float] = {}
calls: Counter[str] = Counter()
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


def after_an_epoch(self: jobs._Kept, epoch: int, at_once: bool, every: float) -> None:
    """`_Kept.after`, its time added to that of checkpoints where it wrote some, else to that of ends of epochs."""
    before, start, _inside.some = self._last, time.perf_counter(), True
    try:
        write_where_due(self, epoch, at_once, every)
    finally:
        _inside.some = False
    name = ENDS if self._last == before else CHECKPOINTS
    spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
    calls[name] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--epochs", type=int, default=4000)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between checkpoints (default: 1)")
    options = parser.parse_args()
    jobs._Kept.after = after_an_epoch
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
            job = Job("overhead", study, "max_depth", folders, torch.device("cpu"), Path(), 1, options.every)
            train_missing(job, lambda epoch, line: None, lambda: False)
    seconds = time.perf_counter() - start
    print(benchmark_header(torch.device("cpu")))
    print(f"spirals, D = {options.depths}, 4 repeats, {options.epochs} epochs: {seconds:.1f} s")
    for name, value in spent.items():
        print(f"{name:28} {value:7.3f} s  {100 * value / seconds:6.3f} %")
    n, of_one = calls[CHECKPOINTS], spent.get(CHECKPOINTS, 0.0) / max(calls[CHECKPOINTS], 1)
    leases = 100 * (sum(spent.values()) - spent.get(CHECKPOINTS, 0.0)) / seconds
    print(f"{n} checkpoints of 4 networks, {1e3 * of_one:.1f} ms each")
    share = leases + 100 * of_one / (IN_SCANS + of_one)
    print(f"checkpoints and leases, one in {IN_SCANS:g} s: {share:.3f} % of the time")


if __name__ == "__main__":
    main()
