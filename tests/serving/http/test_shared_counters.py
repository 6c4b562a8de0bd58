"""Metrics of several workers in files that may not be writable: counted all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

COUNTING = """
import resource, sys, time
from serving.http.prometheus import Metrics

metrics = Metrics()
metrics.observe("GET", "/first", 200, 0.01)
time.sleep(0.3)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
for n in range(300):
    metrics.observe("GET", f"/{n}/" + "x" * 100, 200, 0.01)
    metrics.count_accounts({"scored": 2})
time.sleep(0.3)
assert b'route="/first"' in metrics.expose()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
metrics.observe("GET", "/last", 200, 0.01)
time.sleep(2.5)
told = metrics.expose().decode()
assert 'bellwether_accounts_total{status="scored"} 600.0' in told, told[:2000]
assert told.count('bellwether_request_seconds_count{') == 302
assert 'route="/last"' in told
print("counted")
"""

READING = """
from serving.http.prometheus import Metrics
print(Metrics().expose().decode())
"""


@pytest.mark.parametrize("room", [0, 12_000, 1 << 30])
def test_a_disk_without_room_costs_no_number_and_no_process(tmp_path, room):
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def run(code: str, *words: str) -> str:
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (done.returncode, done.stderr)
        return done.stdout

    assert run(COUNTING, str(room)).strip() == "counted"
    # Another worker reads what the first one, which has ended, counted.
    told = run(READING)
    assert 'bellwether_accounts_total{status="scored"} 600.0' in told
    assert told.count("bellwether_request_seconds_count{") == 302
