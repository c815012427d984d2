"""What the choice of a device sets up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT_PAGES = """
import resource, torch
from cyberhost_model.device import keep_freed_memory
keep_freed_memory()
torch.set_num_threads(1)
picture = torch.zeros(1, 3, 384, 384)

def compute():
    kept = [picture + i for i in range(10)]
    return sum(float(x[0, 0, 0, 0]) for x in kept)

compute(), compute()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    compute()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.confstr("CS_GNU_LIBC_VERSION") is None, reason="glibc")
@pytest.mark.parametrize("own", [False, True])
def test_buffers_stay_in_memory_unless_the_environment_sets_that(own):
    """20 times 10 buffers of 432 pages each."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUN"))}
    if own:
        environment["MALLOC_TRIM_THRESHOLD_"] = environment["MALLOC_MMAP_THRESHOLD_"] = "131072"
    pages = int(subprocess.check_output([sys.executable, "-c", COUNT_PAGES], env=environment))
    assert pages > 50_000 if own else pages < 2_000
