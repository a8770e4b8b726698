"""How the load generator watches itself."""

import subprocess
import sys


def test_a_stall_counts_for_as_long_as_it_lasts() -> None:
    program = """
import gevent, time
from loadgen.harness.health import Health
probe = Health()
probe.start()
for _ in range(3):
    gevent.sleep(0.5)
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        pass
found = probe.stop()
assert 150 < found.loop_lag_p99_ms <= found.loop_lag_max_ms < 2000, found
assert found.loop_lag_p50_ms < 50, found
assert 0 < found.cpu_share <= 1.01 and found.cpu_share < found.cpu_seconds, found
assert found.gc_pauses == 0 and found.gc_longest_ms is None, found
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_pauses_of_the_garbage_collector_are_counted_and_timed() -> None:
    program = """
import gc, gevent
from loadgen.harness.health import Health
gc.disable()
health = Health()
health.start()
many = [[] for _ in range(300_000)]
gc.collect()
gevent.sleep(0.05)
found = health.stop()
assert found.gc_pauses == 1, found
assert 0 < found.gc_longest_ms == found.gc_total_ms, found
assert health.stop().gc_pauses is None
assert not gc.callbacks or all("Health" not in repr(c) for c in gc.callbacks)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
