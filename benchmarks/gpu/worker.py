"""Takes measurements one after the other in a process of its own, and writes a line of JSON for each.

What breaks a process, or the GPU in it, costs one measurement: the parent starts another for the rest.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import sys
from typing import Any

from spikeclip.errors import InputError, first_line


def main() -> None:
    """Read the names and the size from the first argument."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    from benchmarks.gpu.measure import SMALL, Size
    from benchmarks.gpu.plan import measurements

    job = json.loads(sys.argv[1])
    size = SMALL if job["small"] else Size()
    if job["once"]:  # to fill the caches of compilers
        size = dataclasses.replace(size, seconds=0.0, epochs=1, pictures=2000)
    found = measurements()
    for name in job["names"]:
        print(json.dumps({"name": name, **_taken(found[name].run, size)}), file=answers)


def _taken(run: Any, size: Any) -> dict[str, Any]:
    import torch

    try:
        return {"status": "measured", **run(size)}
    except (ImportError, InputError, NotImplementedError) as error:  # not installed, or not for this device
        return {"status": "not measured", "why": first_line(error)}
    except Exception as error:  # whatever it raises is that row's result, not the end of the benchmark
        return {"status": "failed", "why": f"{type(error).__name__}: {first_line(error)}"}
    finally:
        torch._dynamo.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
