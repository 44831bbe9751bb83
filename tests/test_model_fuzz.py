"""Configurations and weights from strangers: the model, or one clear line; never a crash, and memory in proportion."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spikeclip.data import Tokenizer

SCRIPT = r"""
import copy, json, math, random, resource, sys, warnings
from pathlib import Path

import torch
from spikeclip import InputError, create_model, from_pretrained
from spikeclip.data import Tokenizer

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
warnings.simplefilter("ignore")
folder, kind = Path(sys.argv[1]), sys.argv[2]
tokenizer = Tokenizer.load(folder)
text = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, "context_length": 8, "width": 8, "depth": 1}
model = create_model("spikeclip-tiny", embed_dim=8, image={"widths": [8]}, text={**text, "num_heads": 2})
model.tokenizer = tokenizer
model.save_pretrained(folder)
config, weights = (folder / "config.json"), (folder / "model.safetensors")
right, right_weights = json.loads(config.read_text()), weights.read_bytes()
right["taught"] = {"templates": ["a {c}"], "renames": {"a": "b"}, "sources": ["x"], "scores": {"acc": 0.5}, "seed": 1}
VALUES = [10**9, -1, 0, 2**63, 10**400, 1e308, math.nan, math.inf, -math.inf, "x", "", None, True, [], {}, [10**9],
          [[]], {"a": math.nan}, [None], "\ud800"]
outcomes = {"loaded": 0, "refused": 0, "wrong": []}

def attempt(what):
    try:
        loaded = from_pretrained(folder)
        H, W, *frames, C = loaded.config.image.shape
        with torch.no_grad():
            images = loaded.encode_image(torch.zeros(1, *frames, C, H, W), normalize=True)
            texts = loaded.encode_text(loaded.tokenize(["a b"]), normalize=True)
        if not (images.shape == texts.shape == (1, 8) and images.isfinite().all() and texts.isfinite().all()):
            outcomes["wrong"].append(f"{what}: embeddings {images.shape}")
        outcomes["loaded"] += 1
    except InputError as error:
        outcomes["refused"] += 1
        if len(str(error)) > 1000 or "\n" in str(error):
            outcomes["wrong"].append(f"{what}: {str(error)[:200]!r} of {len(str(error))} characters")
    except BaseException as error:
        outcomes["wrong"].append(f"{what}: {type(error).__name__}: {str(error)[:200]}")

def places(values, path=()):
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))

def edit(values, path, value):
    *parents, last = path
    for key in parents:
        values = values.get(key) if isinstance(values, dict) else None
    if isinstance(values, dict):
        if value == "missing":
            values.pop(last, None)
        elif value == "extra":
            values[f"{last}_"] = 1
        else:
            values[last] = value

if kind == "config":
    paths, draw = list(places(right)), random.Random(0)
    single = [[(path, value)] for path in paths for value in [*VALUES, "missing", "extra"]]
    double = [[(draw.choice(paths), draw.choice([*VALUES, 1, 2, 8, 64, 1.5])) for _ in range(2)] for _ in range(150)]
    for edits in [*single, *double]:
        changed = copy.deepcopy(right)
        for path, value in edits:
            edit(changed, path, value)
        config.write_text(json.dumps(changed))
        attempt(edits)
    deep = "[" * 10_000 + "]" * 10_000
    for text in (deep, '{"model_type": "spikeclip", "image": ' + deep + "}", '{"a": ' * 10_000, "", "null", "[" * 10**7,
                 " " * (20 << 20), '{"model_type": "spikeclip", "name": "' + "x" * 10**6 + '"}', "\ud800",
                 '{"model_type": "spikeclip", "' + "k" * 10**6 + '": 1}', '{"model_type": "spikeclip", "embed_dim": '
                 + "9" * 5000 + "}", '{"model_type": "spikeclip", "image": {"widths": [' + "8," * 10**6 + "8]}}"):
        config.write_bytes(text.encode("utf-8", "surrogatepass"))
        attempt(text[:40])
else:
    draw, size = random.Random(1), int.from_bytes(right_weights[:8], "little")
    for number in range(400):
        changed = bytearray(right_weights)
        for _ in range(draw.choice([1, 1, 3])):
            changed[draw.randrange(8 + size)] = draw.choice([0, 34, 48, 57, 93, 125, 255, draw.randrange(256)])
        weights.write_bytes(changed if number % 4 else changed[: draw.randrange(len(changed))])
        attempt(f"bytes {number}")
# Not ru_maxrss, which begins with that of the process that started this one.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
outcomes["memory"] = peak << 10
print(json.dumps(outcomes))
"""


@pytest.mark.parametrize("kind", ["config", "weights"])
def test_a_model_from_a_stranger_loads_or_is_refused(tmp_path: Path, kind: str) -> None:
    Tokenizer.train(["a b c"], 300).save(tmp_path)
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path, kind], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["refused"] > 250
    assert found["loaded"] > 0
    assert found["memory"] < 1 << 30
