"""A spiral scan that counts what it does, whoever kills it: `python counted.py FILE <options of the scan>`.

Appends to FILE a line `epoch R` for each epoch of R replicates, `finish FOLDER` for each finished run.
"""

import os
import sys

from conftest import load

from depthsearch.learning.replicates import Replicates
from depthsearch.running.folders import Reservation

counts = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
run_epoch, finish = Replicates.run_epoch, Reservation.finish


def counted_epoch(self, data, generators):
    value = run_epoch(self, data, generators)
    os.write(counts, b"epoch %d\n" % len(generators))
    return value


def counted_finish(self, *args, **kwargs):
    finish(self, *args, **kwargs)
    os.write(counts, f"finish {self.folder}\n".encode())


Replicates.run_epoch, Reservation.finish = counted_epoch, counted_finish

if __name__ == "__main__":
    load("max_depth_spirals").main(sys.argv[2:])
