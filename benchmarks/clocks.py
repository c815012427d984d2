"""What seconds are. Standard library alone, for it is read in the peers' environments too."""

from __future__ import annotations

import resource
import time


def processor() -> float:
    """Seconds of processor that this process, its threads and its ended children have had: what else the machine does
    hardly counts.
    """
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


CLOCKS = {"wall": time.perf_counter, "processor": processor}
CLOCK_HELP = "processor: seconds of processor, for a machine that has other things to do; with --threads 1"
