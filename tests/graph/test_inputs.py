"""What a graph does not read is an `InputError`, in the specification and in the engine, whose kernels index by it."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba (extra runtime) is not installed")

from spikeclip.engine import Engine
from spikeclip.errors import InputError
from spikeclip.graph import execute
from spikeclip.graph.inputs import picture_batches
from spikeclip.graph.lower import lower

NORMAL = np.zeros((2, 32, 32, 3), np.float32)
PICTURES = {
    "a smaller picture": NORMAL[:, :16],
    "four channels": np.zeros((2, 32, 32, 4), np.float32),
    "channels first": np.zeros((2, 3, 32, 32), np.float32),
    "one picture": NORMAL[0],
    "a batch of batches": NORMAL[None],
    "bytes": NORMAL.astype(np.uint8),
    "integers": NORMAL.astype(np.int64),
    "complex numbers": NORMAL.astype(np.complex64),
    "text": np.full((2, 32, 32, 3), "x"),
    "objects": np.full((2, 32, 32, 3), None),
    "NaN": np.full((2, 32, 32, 3), np.nan, np.float32),
    "infinity": np.full((2, 32, 32, 3), -np.inf, np.float32),
    "beyond float32": np.full((2, 32, 32, 3), 1e300),
    "no pictures": NORMAL[:0],
    "a number": np.float32(1),
    "a list": [1.0, 2.0],
}
TEXTS = {
    "a negative id": np.array([[1, -1, 59]]),
    "the least id": np.array([[-(2**63), 59]]),
    "the first id outside": np.array([[1, 60, 59]]),
    "the largest id": np.array([[2**63 - 1, 59]]),
    "an unsigned id": np.array([[2**64 - 1, 59]], np.uint64),
    "floats": np.array([[1.0, 59.0]]),
    "booleans": np.array([[True, False]]),
    "one text": np.array([1, 59]),
    "too long": np.ones((1, 78), np.int64),
    "no tokens": np.ones((1, 0), np.int64),
    "no texts": np.ones((0, 5), np.int64),
    "objects": np.array([[None, 1]]),
    "strings": np.array([["a", "b"]]),
    "a number": np.int64(1),
}


@pytest.fixture(scope="module")
def towers(small):
    model = small("spikeclip-tiny", neuron="ilif", T=1)
    return lower(model.image, model.config.image), lower(model.text)


@pytest.fixture(scope="module")
def engines(towers):
    return [Engine(tower, mode="events") for tower in towers]


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(towers, engines, name):
    runs = (lambda x: execute(towers[0], x), engines[0])
    for run in runs[:1] if name == "bytes" else runs:
        with pytest.raises(InputError, match=r"expected pictures of shape|no pictures, or pixels"):
            run(PICTURES[name])


def test_an_engine_reads_bytes_as_data_holds_them(towers, engines):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    (batch,) = picture_batches(towers[0], pixels)
    np.testing.assert_array_equal(engines[0](pixels), engines[0](batch))
    for wrong, message in (
        (pixels[..., :2], "3 channels, got 2"),
        (pixels[:, 1:], "expected pictures of shape"),
    ):
        with pytest.raises(InputError, match=message):
            engines[0](wrong)


@pytest.mark.parametrize("name", TEXTS)
def test_texts(towers, engines, name):
    for run in (lambda x: execute(towers[1], x), engines[1]):
        with pytest.raises(InputError, match=r"expected token ids|token ids from|texts of 78 tokens"):
            run(TEXTS[name])


def test_ids_of_a_text_of_fixed_length(small):
    """The published tower cuts and fills texts; ids after the end do not count, the others do."""
    graph = lower(small("spikeclip-paper", neuron="lif", T=2).text)
    engine = Engine(graph, precision="fp32", mode="events")
    fine = np.array([[1, 59, 10**6, -7]])
    np.testing.assert_allclose(engine(fine), execute(graph, np.array([[1, 59]])), rtol=1e-5, atol=1e-5)
    for ids in (np.array([[10**6, 59]]), np.array([[-7, 59]])):
        for run in (lambda x: execute(graph, x), engine):
            with pytest.raises(InputError, match="but the vocabulary has 60"):
                run(ids)


def test_an_automatic_engine_checks_before_it_measures(towers):
    for tower, inputs in zip(towers, (PICTURES, TEXTS), strict=True):
        for name in ("a number", "objects"):
            with pytest.raises(InputError):
                Engine(tower)(inputs[name])


def test_pixels_that_are_not_bytes(towers):
    for pixels in (NORMAL, NORMAL.astype(np.int64)):
        with pytest.raises(InputError, match="expected pictures of uint8, 0 to 255, got"):
            next(picture_batches(towers[0], pixels))
