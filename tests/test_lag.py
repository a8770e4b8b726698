"""The probe of the loop's lateness."""

import subprocess
import sys


def test_a_stall_counts_for_as_long_as_it_lasts() -> None:
    program = """
import gevent, time
from loadgen.harness.lag import LoopLag
probe = LoopLag()
probe.start()
for _ in range(3):
    gevent.sleep(0.5)
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        pass
found = probe.stop()
assert 150 < found.loop_lag_p99_ms <= found.loop_lag_max_ms < 2000, found
assert found.loop_lag_p50_ms < 50, found
"""
    subprocess.run([sys.executable, "-c", program], check=True)
