import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("kind", "rounds"), [("shard", 300), ("members", 150), ("parquet", 300), ("npz", 200)]
)
def test_a_damaged_source_is_refused_or_accounted_for_and_takes_little_memory(kind, rounds):
    script = Path(__file__).with_name("fuzz_sources.py")
    done = subprocess.run([sys.executable, script, kind, str(rounds)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["refused"] + found["loaded"] == rounds
    assert min(found["refused"], found["loaded"]) > 0
    assert found["megabytes"] < 1000
