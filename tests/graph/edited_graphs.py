"""Edit saved graphs at random and run what can still be read: a process of its own, which a wrong kernel call ends.

    python edited_graphs.py FOLDER SEED COUNT

FOLDER holds graphs whose arithmetic is exact in float32, so that the order of a sum cannot move a spike. Every edit is
printed before it is tried, then what came of it; the last line is how often each came, and the peak of memory.
"""

import copy
import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from spikeclip.energy.counts import counts
from spikeclip.engine.engine import Engine
from spikeclip.engine.steps import Synapses
from spikeclip.errors import InputError
from spikeclip.graph import execute, load_graph, ops
from spikeclip.graph.execute import run_op
from spikeclip.graph.store import quantize
from spikeclip.graph.verify import verify

NUMBERS = [-1, 0, 1, 2, 3, 5, 7, 64, 10**6, 10**9, 2**31, 2**63, 10**30, -(10**9), 0.5, 1.5, 3.0]
NUMBERS += [1e-30, 1e30, -1e30, 1e300, float("nan"), float("inf"), float("-inf")]
OTHERS = [
    None,
    True,
    False,
    "",
    "1",
    "ilif",
    "lif",
    "relu",
    [],
    {},
    [1],
    [0, 0, 0],
    [-1],
    [[1], 2],
    ["image"],
]
OTHERS += [[10**6, 10**6, 3], [1024, 1024, 3], [-1, 16], [-1, -1], [4, -1], [1e9], {"a": 1}]
TYPES = [np.int8, np.bool_, np.float64, np.float16, np.int64, np.uint8]


def pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def edit_field(rng, described, arrays):
    """Another value, or none, for one setting of one operation."""
    row = pick(rng, described["ops"])
    key = pick(rng, [key for key in row if key not in ("op", "name", "inputs")] or ["name"])
    value = row[key]
    kind = pick(rng, ["near", "near", "number", "number", "other", "gone", "more"])
    if kind == "near" and isinstance(value, (int, float)) and not isinstance(value, bool):
        row[key] = pick(rng, [value + 1, value - 1, value * 2, value * 1.5, value / 4, -value])
    elif kind == "near" and isinstance(value, list) and value:
        place = int(rng.integers(len(value)))
        row[key] = [*value[:place], pick(rng, NUMBERS), *value[place + 1 :]]
    elif kind == "gone":
        del row[key]
    elif kind == "more":
        row[pick(rng, ["colour", "weight_IO", "T", "substeps"])] = pick(rng, NUMBERS)
    else:
        row[key] = pick(rng, NUMBERS if kind == "number" else OTHERS)
    return f"{row.get('name')}.{key}: {kind}, {value!r} -> {row.get(key)!r}"


def edit_wiring(rng, described, arrays):
    """Other inputs, another order, another kind of operation."""
    rows = described["ops"]
    place = int(rng.integers(len(rows)))
    row, names = rows[place], [row["name"] for row in rows]
    kind = pick(rng, ["input", "input", "input", "same", "swap", "delete", "twice", "op", "name", "rest"])
    inputs = list(row.get("inputs", []))
    if kind == "input" and inputs:
        inputs[int(rng.integers(len(inputs)))] = pick(rng, names[:place] if rng.random() < 0.8 else names)
        row["inputs"] = inputs
    elif kind == "same":
        row["inputs"] = pick(rng, [inputs[:1] * 2, inputs[::-1], inputs[:-1], [*inputs, pick(rng, names)]])
    elif kind == "swap":
        rows[place - 1], rows[place] = rows[place], rows[place - 1]
    elif kind == "delete":
        later = [other for other in rows if row["name"] in other["inputs"]]
        rows.remove(row)
        if inputs and rng.random() < 0.7:  # what read it reads what it read
            for other in later:
                other["inputs"] = [inputs[0] if name == row["name"] else name for name in other["inputs"]]
    elif kind == "twice":
        rows.insert(place, copy.deepcopy(row))
    elif kind == "op":
        row["op"] = pick(rng, [*ops.OPS, "Dream", 3, None])
    elif kind == "name":
        row["name"] = pick(rng, ["k^T v", "", "x" * 10_000, 7, *names])
    else:
        described[pick(rng, ["format", "ops", "more"])] = pick(rng, [*NUMBERS, *OTHERS])
    return f"{kind} of {names[place]}"


def edit_array(rng, described, arrays):
    """Another shape, another type, other values."""
    name = pick(rng, sorted(arrays))
    x = arrays[name]
    axis = int(rng.integers(x.ndim))
    kind = pick(rng, ["cut", "cut", "cut", "fill", "turn", "flat", "axis", "type", "empty", "gone", "more"])
    if rng.random() < 0.4:
        kind = pick(rng, ["zero", "negate", "double", "grid", "bad", "large"])
    if kind == "cut":
        x = np.take(x, np.arange(rng.integers(1, x.shape[axis] + 1)), axis)
    elif kind == "fill":
        x = np.repeat(x, 2, axis)
    elif kind == "bad":
        x = x.copy()
        x.flat[rng.integers(x.size)] = pick(rng, [np.nan, np.inf, -np.inf, 1e30, -3e38])
    else:
        x = {
            "turn": lambda: np.ascontiguousarray(x.T),
            "flat": lambda: x.reshape(-1),
            "axis": lambda: x[None],
            "type": lambda: x.astype(pick(rng, TYPES)),
            "empty": lambda: x[:0],
            "zero": lambda: x * 0,
            "negate": lambda: -x,
            "double": lambda: x * 2,
            "grid": lambda: (rng.integers(-64, 65, x.shape) / 64).astype(np.float32),
            "large": lambda: x * np.float32(2.0**14),
        }.get(kind, lambda: x)()
    arrays[name] = x
    if kind == "gone":
        del arrays[name]
    elif kind == "more":
        arrays[f"{name}.again"] = x
    return f"{name} {kind} {x.dtype} {x.shape}"


def edit_bytes(rng, path):
    """Bytes of the operations, or of the arrays' header."""
    file = path.with_suffix(pick(rng, [".json", ".safetensors"]))
    data = bytearray(file.read_bytes())
    header = len(data) if file.suffix == ".json" else 8 + int.from_bytes(data[:8], "little")
    place = int(rng.integers(header))
    kind = pick(rng, ["flip", "flip", "cut", "empty", "longer", "type", "deep", "length"])
    if kind == "flip":
        data[place] = int(rng.integers(256))
    elif kind == "cut":
        del data[place:]
    elif kind == "empty":
        data.clear()
    elif kind == "longer":
        data += b"more"
    elif kind == "type":
        data[:] = pick(rng, [b"[]", b"null", b'"text"', b"3", b'{"format": 1}', b'{"format": 1, "ops": {}}'])
    elif kind == "deep":
        data[:] = b"[" * 100_000
    else:
        data[:8] = (2 ** int(rng.integers(64))).to_bytes(8, "little")
    file.write_bytes(data)
    return f"{file.suffix} {kind} at {place}"


def edit(rng, path, described, arrays):
    """Write an edited graph to `path` and return what was edited."""
    described, arrays = copy.deepcopy(described), dict(arrays)
    form = pick(
        rng, [edit_field, edit_field, edit_field, edit_wiring, edit_wiring, edit_array, edit_array, None]
    )
    said = [form(rng, described, arrays)] if form else []
    if form in (edit_field, edit_wiring) and rng.random() < 0.15:
        said.append(edit_array(rng, described, arrays))
    path.with_suffix(".json").write_text(json.dumps(described))
    path.with_suffix(".safetensors").write_bytes(save(arrays))
    return "; ".join(said or [edit_bytes(rng, path)])


def exact_int8(graph, layers, inputs):
    """Return what the specification says of a graph whose layers of spikes have weights of 8 bits."""
    values, output = {}, inputs
    for op in graph.ops:
        given = [values[name] for name in op.inputs] or [inputs[None]]
        if op.name in layers:
            field = "weight_RSIO" if isinstance(op, ops.Conv) else "weight_IO"
            weight = getattr(op, field)
            whole, scale_O = quantize(weight.reshape(-1, weight.shape[-1]))
            bare = replace(
                op, **{field: whole.astype(np.float32).reshape(weight.shape), "bias_O": op.bias_O * 0}
            )
            output = run_op(bare, *given) * scale_O + op.bias_O
        else:
            output = run_op(op, *given)
        values[op.name] = output
    return output[0]


def equal(found, wanted):
    size = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * size)


def inputs_of(rng, graph):
    image = graph.input
    if isinstance(image, ops.Tokens):
        return rng.integers(0, 60, (2, min(5, image.length)))
    H, W, C = image.shape
    shape = image.shape if image.constant else (H, W, image.event_frames, C)
    return (rng.integers(-8, 9, (2, *shape)) / 8).astype(np.float32)


def try_one(rng, path, thorough):
    """Return what came of a graph: refused, by whom, or answered."""
    try:
        graph = load_graph(path)
    except InputError:
        return "refused"
    x = inputs_of(rng, graph)
    try:
        wanted = execute(graph, x)
    except InputError as error:
        return f"read, but {str(error)[:40]}"
    if thorough:
        try:
            verify(graph, x)
            counts(graph)
        except InputError:
            pass
    answers = 0
    for precision in ("fp32", "int8"):
        try:
            engine = Engine(graph, precision=precision, mode="events", threads=None if thorough else 1)
            found = engine(x)
        except InputError:
            continue
        layers = {step.name for step in engine.by_events if isinstance(step, Synapses)}
        equal(found, wanted if precision == "fp32" else exact_int8(graph, layers, x))
        answers += 1
    return "answered" if answers == 2 else "specification alone"


def main(folder, seed, edits):
    names = sorted(file.stem for file in Path(folder).glob("*.json"))
    bases = [(name, Path(folder) / name) for name in names]
    read = {
        name: (json.loads(path.with_suffix(".json").read_text()), load_file(path.with_suffix(".safetensors")))
        for name, path in bases
    }
    outcomes = Counter()
    for number in range(edits):
        rng = np.random.default_rng((seed, number))
        name = pick(rng, names)
        path = Path(folder) / "edited" / "graph"
        print(f"{number} {name}: {edit(rng, path, *read[name])}"[:500], flush=True)
        outcome = try_one(rng, path, thorough=number % 5 == 0)
        outcomes[outcome] += 1
    # Not ru_maxrss, which begins with that of the process that started this one.
    peak = int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) // 1024
    print(json.dumps({"outcomes": outcomes, "peak_mb": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
