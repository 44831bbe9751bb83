"""The engine computes what the dense executor computes."""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import image_graph, pictures

pytest.importorskip("numba", reason="numba (extra runtime) is not installed")
pytest.importorskip("openvino", reason="openvino (extra openvino) is not installed")

from spikeclip.engine import Engine, choice, threads
from spikeclip.engine.dense import Stretch, join
from spikeclip.engine.measure import clearly_fastest
from spikeclip.engine.openvino_graph import OpenVinoGraph
from spikeclip.engine.run import Values
from spikeclip.errors import InputError
from spikeclip.graph import execute, ops, to_substeps
from spikeclip.graph.lower import lower
from spikeclip.graph.ops import Graph

PRECISIONS = ("fp32", "int8")


@pytest.fixture(autouse=True, scope="module")
def choices(tmp_path_factory):
    """The folder of what automatic engines chose."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spikeclip.engine.choice.FOLDER", tmp_path_factory.mktemp("choices"))
        yield choice.FOLDER


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["lif", "ilif"]),
    T=st.integers(1, 5),
    batch=st.integers(1, 17),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    shape=st.sampled_from([(8, 2), (32, 4), (48, 8), (36, 3)]),
    drive=st.sampled_from([-200.0, -2.0, 0.0, 2.0, 200.0]),
    precision=st.sampled_from(PRECISIONS),
    mode=st.sampled_from(["events", "events", "events", "dense"]),
    recording=st.booleans(),
)
def test_random_graphs(seed, kind, T, batch, size, shape, drive, precision, mode, recording):
    frames = T if recording else 1
    graph = image_graph(seed, kind, T, size, *shape, drive=drive, frames=frames)
    x = pictures(seed, batch, size, frames)
    out = Engine(graph, precision=precision, mode=mode)(x)
    np.testing.assert_array_equal(out, execute(graph, x))


@pytest.mark.parametrize("preset", ["spikeclip-paper", "spikeclip-base", "spikeclip-tiny"])
@pytest.mark.parametrize(
    ("neuron", "T"), [("lif", 4), ("plif", 3), ("ilif", 1), ("ilif", 3), ("quant_relu", 1)]
)
def test_towers_equal_the_pytorch_towers(small, pictures, tokens, preset, neuron, T):
    model = small(preset, neuron=neuron, T=T)
    with torch.no_grad():
        images, texts = model.encode_image(pictures).numpy(), model.encode_text(tokens).numpy()
    image = Engine(lower(model.image, model.config.image), precision="fp32", mode="events")
    text = Engine(lower(model.text), precision="fp32", mode="events")
    x = pictures.permute(0, 2, 3, 1).numpy().astype(np.float32)
    np.testing.assert_allclose(image(x), images, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(text(tokens.numpy()), texts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("preset", ["spikeclip-paper", "spikeclip-base", "spikeclip-tiny"])
@pytest.mark.parametrize(("neuron", "T"), [("lif", 3), ("ilif", 1)])
def test_dense_towers_equal_the_pytorch_towers(small, pictures, tokens, preset, neuron, T):
    model = small(preset, neuron=neuron, T=T)
    with torch.no_grad():
        images, texts = model.encode_image(pictures).numpy(), model.encode_text(tokens).numpy()
    image = Engine(lower(model.image, model.config.image), precision="fp32", mode="dense")
    text = Engine(lower(model.text), precision="fp32", mode="dense")
    assert image.whole is not None
    x = pictures.permute(0, 2, 3, 1).numpy().astype(np.float32)
    np.testing.assert_allclose(image(x), images, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(text(tokens.numpy()), texts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("preset", ["spikeclip-base", "spikeclip-tiny"])
def test_neurons_of_a_dense_tower_are_within_one_level(small, pictures, preset):
    """Each is asked for what its own currents, of the executor, make it fire: a rounding moves it by one at most."""
    model = small(preset)
    graph = lower(model.image, model.config.image)
    levels: dict[str, np.ndarray] = {}
    x = pictures.permute(0, 2, 3, 1).numpy().astype(np.float32)
    Engine(graph, mode="events")(x, levels.__setitem__)
    names = [op.name for op in graph.ops[1:]]
    built = OpenVinoGraph(graph, "int8", x.shape, names, list(levels))
    built.pictures(np.dtype("float32"))
    request = built.compiled({"INFERENCE_NUM_THREADS": 1}).create_infer_request()
    request.infer([x])
    for i, (name, level) in enumerate(levels.items()):
        found = request.get_output_tensor(i).data.astype(int).reshape(level.shape)
        assert np.abs(found - level).max() <= 1, name
        assert np.mean(found != level) < 0.01, name
        assert level.any(), name


def stretches(engine):
    return [step for step in engine.steps if isinstance(step, Stretch)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["lif", "ilif"]),
    T=st.sampled_from([1, 3]),
    batch=st.integers(1, 5),
    precision=st.sampled_from(PRECISIONS),
    dense=st.sets(st.sampled_from(["conv1", "conv2", "conv3", "q", "k", "v", "proj", "fc"]), min_size=1),
    recording=st.booleans(),
)
def test_any_stretches_change_nothing(seed, kind, T, batch, precision, dense, recording):
    frames = T if recording else 1
    graph = image_graph(seed, kind, T, (5, 7), 32, 4, frames=frames)
    x = pictures(seed, batch, (5, 7), frames)
    engine = Engine(graph, precision=precision, mode="events")
    engine.steps = join(graph, precision, engine.by_events, dense, engine.threads)
    assert {step.name for stretch in stretches(engine) for step in stretch.steps} >= dense
    np.testing.assert_array_equal(engine(x), execute(graph, x))


def test_dense_everywhere_is_one_stretch():
    graph, x = image_graph(11, "ilif", 2, (6, 7), 48, 4), pictures(11, 4, (6, 7))
    dense = Engine(graph, mode="dense")
    (stretch,) = stretches(dense)
    assert {step.name for step in dense.synapses()} | {"conv1", "product"} <= {s.name for s in stretch.steps}
    np.testing.assert_array_equal(dense(x), Engine(graph, mode="events")(x))


@pytest.mark.parametrize("fastest", ["events", "stretches", "dense"])
def test_calibration_decides_what_runs(monkeypatch, fastest):
    graph, x = image_graph(11, "ilif", 2, (6, 7), 48, 4), pictures(11, 4, (6, 7))

    def race(runs, *_, **__):
        for run in runs.values():
            run()
        return {name: 1.0 if name == fastest else 2.0 for name in runs}

    def race_of_layers(runs, *_):
        for run in runs.values():
            run()
        wanted = next(layers) if "dense" in runs else ""
        return {name: 1.0 if name == wanted else 2.0 for name in runs}

    engine, layers = Engine(graph), cycle(["dense", "events"])
    monkeypatch.setattr("spikeclip.engine.engine.race", race)
    monkeypatch.setattr("spikeclip.engine.measure.race", race_of_layers)
    rows = engine.calibrate(x)
    inside = {step.name for stretch in stretches(engine) for step in stretch.steps}
    faster = {row.name for row in rows if row.faster_dense}
    assert faster
    if fastest == "events":
        assert not inside
    elif fastest == "stretches":
        assert faster <= inside
        assert not inside & {step.name for step in engine.synapses() if step.name not in faster}
    else:
        assert inside >= {step.name for step in engine.synapses()}
    assert {row.name for row in rows if row.chosen == "dense" and row.seconds is None} == inside
    assert [row.name for row in rows if row.chosen == "stretch"] == [s.name for s in stretches(engine)]
    assert all(s.name in engine.explain() for s in stretches(engine))
    np.testing.assert_array_equal(engine(x), execute(graph, x))


def test_a_later_engine_runs_what_was_chosen(monkeypatch, choices):
    graph, x = image_graph(15, "ilif", 1, (6, 7), 48, 4), pictures(15, 16, (6, 7))
    monkeypatch.setattr("spikeclip.engine.engine.clearly_fastest", lambda times: "dense")
    kept = set(choices.iterdir())
    first = Engine(graph)
    out = first(x)
    (file,) = set(choices.iterdir()) - kept

    def measure(*_):
        raise NotImplementedError

    monkeypatch.setattr("spikeclip.engine.engine.measure", measure)
    later = Engine(graph)
    np.testing.assert_array_equal(later(x), out)
    assert [s.name for s in stretches(later)] == [s.name for s in stretches(first)]

    stem = graph.ops[1]
    other = Graph([graph.input, replace(stem, bias_O=stem.bias_O + 1), *graph.ops[2:]])
    for engine, batch in (
        (Engine(other), x),
        (Engine(graph, precision="fp32"), x),
        (Engine(graph), pictures(1, 32, (6, 7))),
    ):
        with pytest.raises(NotImplementedError):
            engine(batch)
    file.write_text("{")
    with pytest.raises(NotImplementedError):
        Engine(graph)(x)


def test_a_handful_of_texts_is_not_measured(small, tokens, monkeypatch, choices):
    graph, ids = lower(small("spikeclip-tiny").text), np.resize(tokens.numpy(), (16, tokens.shape[1]))
    monkeypatch.setattr("spikeclip.engine.engine.clearly_fastest", lambda times: "dense")
    kept, few, many = set(choices.iterdir()), Engine(graph), Engine(graph)
    for batch in (ids[:15], ids):  # the second runs as the first did: equal rows for equal texts
        np.testing.assert_array_equal(few(batch), Engine(graph, mode="events")(batch))
    assert not stretches(few)
    assert set(choices.iterdir()) == kept
    many(ids)
    assert stretches(many)
    few.calibrate(ids)
    assert stretches(few)


def test_without_openvino_there_are_events(monkeypatch):
    graph, x = image_graph(11, "ilif", 2, (6, 7), 48, 4), pictures(11, 4, (6, 7))
    for module in ("dense", "engine"):
        monkeypatch.setattr(f"spikeclip.engine.{module}.has_openvino", lambda: False)
    engine = Engine(graph, mode="auto")
    np.testing.assert_array_equal(engine(x), Engine(graph, mode="events")(x))
    assert {row.chosen for row in engine.calibrate(x) if row.density is not None} == {"events"}
    with pytest.raises(InputError, match=r"pip install .*\[openvino\]"):
        Engine(graph, mode="dense")


def test_calibration_measures_and_explains():
    graph, x = image_graph(12, "lif", 2, (6, 7), 48, 4), pictures(12, 4, (6, 7))
    engine = Engine(graph)
    with pytest.raises(InputError, match="call calibrate"):
        engine.explain()
    layers = {layer.name: layer for layer in engine.calibrate(x)}
    for step in engine.synapses():
        layer = layers[step.name]
        assert layer.seconds_events > 0
        assert layer.seconds_dense > 0
        assert 0 <= layer.density <= layer.rate <= 1
        assert step.name in engine.explain()
    assert {layer.chosen for layer in Engine(graph, mode="events").calibrate(x)} >= {"events"}


@pytest.mark.parametrize(("dense", "chosen"), [(0.9, "dense"), (0.97, "events"), (1.1, "events")])
def test_events_unless_dense_is_clearly_faster(dense, chosen):
    assert clearly_fastest({"events": 1.0, "dense": dense}) == chosen


def saturated(K, sign, D, N=40):
    """Every input fires at every level, every weight has the largest size: the largest sum there can be."""
    weight = np.full((K, N), sign * 127, np.float32)
    weight[:, ::2] *= -1
    return Graph(
        [
            ops.Image("image", (), (1, 2, K)),
            ops.Conv("eye", ("image",), np.eye(K, dtype=np.float32)[None, None], np.zeros(K, np.float32)),
            ops.Neuron("spike", ("eye",), "ilif", D=D, range=1.0),
            ops.Conv("sum", ("spike",), weight[None, None], np.zeros(N, np.float32)),
        ]
    )


@pytest.mark.parametrize("K", [1, 257, 258, 259, 516, 517, 4100])
@pytest.mark.parametrize("D", [1, 4])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_of_int8_weights_cannot_overflow(K, D, sign):
    graph = saturated(K, sign, D)
    out = Engine(graph, precision="int8")(np.ones((1, 1, 2, K), np.float32))
    np.testing.assert_array_equal(np.abs(out), np.full((1, 1, 2, 40), 127.0 * K * D))
    np.testing.assert_array_equal(out, execute(graph, np.ones((1, 1, 2, K), np.float32)))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_silent_layer_leaves_its_bias(precision):
    graph = saturated(64, 1, 2)
    out = Engine(graph, precision=precision)(-np.ones((3, 1, 2, 64), np.float32))
    np.testing.assert_array_equal(out, np.zeros((3, 1, 2, 40), np.float32))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_batch_and_calls_do_not_matter(precision):
    graph, x = image_graph(3, "ilif", 2, (6, 4), 32, 4), pictures(3, 17, (6, 4))
    engine = Engine(graph, precision=precision, mode="events")
    whole = engine(x)
    np.testing.assert_array_equal(engine(x), whole)
    for i in range(len(x)):
        # BLAS sums by batch.
        np.testing.assert_allclose(engine(x[i : i + 1])[0], whole[i], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("mode", ["events", "dense"])
def test_what_was_in_memory_does_not_matter(monkeypatch, mode):
    def used(values, name, shape, dtype, room=Values.room):
        array = room(values, name, shape, dtype)
        array.view(np.uint8)[:] = 0x7B  # 1.3e36 as float32, 31,611 as an entry of a list
        return array

    monkeypatch.setattr(Values, "room", used)
    for seed, width, heads in [(2, 48, 8), (3, 36, 3), (4, 32, 4)]:
        graph, x = image_graph(seed, "lif", 3, (5, 6), width, heads), pictures(seed, 3, (5, 6))
        np.testing.assert_array_equal(Engine(graph, mode=mode)(x), execute(graph, x))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_matter(threads):
    import numba

    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("this machine has one thread")
    graph, x = image_graph(5, "lif", 4, (8, 8), 48, 8), pictures(5, 5, (8, 8))
    before = numba.get_num_threads()
    np.testing.assert_array_equal(Engine(graph, threads=threads)(x), execute(graph, x))
    assert numba.get_num_threads() == before


@pytest.mark.parametrize("window", [(1, 2, 0), (2, 3, 1), (3, 2, 1), (4, 1, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_max_pools(window, shared):
    """One that a single neuron reads is part of the convolution before it."""
    image, conv1, spike1, conv2, pool, spike2, conv3, *_ = image_graph(6, "lif", 3, (7, 5), 36).ops
    end = [ops.Neuron("another", ("pool",), "lif", 3)] if shared else []
    graph = Graph(
        [image, conv1, spike1, conv2, ops.MaxPool("pool", pool.inputs, *window), *end, spike2, conv3]
    )
    x = pictures(6, 3, (7, 5))
    for mode in ("events", "dense"):
        engine = Engine(graph, mode=mode)
        assert any(step.name == "spike2" for step in engine.by_events) == shared
        np.testing.assert_array_equal(engine(x), execute(graph, x))


def test_int8_embeddings_stay_near(small, pictures):
    model = small("spikeclip-tiny", neuron="ilif", T=1)
    graph = lower(model.image, model.config.image)
    x = pictures.permute(0, 2, 3, 1).numpy().astype(np.float32)
    exact, near = execute(graph, x), Engine(graph, precision="int8", mode="events")(x)
    cosine = (exact * near).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(near, axis=1)
    assert cosine.min() > 0.95
    assert not np.array_equal(exact, near)  # it is the int8 path that ran


def test_what_the_engine_refuses(small):
    graph = image_graph(0)
    with pytest.raises(InputError, match=r"unknown precision 'int4'; did you mean 'int8'"):
        Engine(graph, precision="int4")
    with pytest.raises(InputError, match="threads must be between 1 and"):
        Engine(graph, threads=0)
    with pytest.raises(InputError, match="ReLU activations"):
        Engine(lower(small("spikeclip-tiny", neuron="relu").image))
    with pytest.raises(InputError, match="windows of size 2 with padding 2 may see nothing"):
        Engine(Graph([replace(op, padding=2) if op.name == "pool" else op for op in image_graph(1).ops]))
    same = [replace(op, D=2) if isinstance(op, ops.Neuron) else op for op in image_graph(0, "ilif", 1).ops]
    with pytest.raises(InputError, match="without sub-steps"):
        Engine(to_substeps(Graph(same)))
    strided = Graph([replace(o, stride=2) if o.name == "conv2" else o for o in graph.ops])
    with pytest.raises(InputError, match="conv2: the engine runs convolutions of spikes with stride 1"):
        Engine(strided)
    with pytest.raises(InputError, match=r"expected pictures of shape \(B, 5, 7, 3\)"):
        Engine(graph)(np.zeros((2, 7, 5, 3), np.float32))


def test_the_disk_is_asked_once_whether_a_kernel_is_kept(monkeypatch):
    kernel, asked = threads.KERNELS["levels_of"], []
    monkeypatch.setattr(kernel, "_address", None)
    monkeypatch.setattr(kernel, "_kept", False)
    monkeypatch.setattr(threads, "is_kept", lambda *about: asked.append(about) or True)
    assert [kernel.is_ready() for _ in range(3)] == [True] * 3
    assert len(asked) == 2  # its own code and that of its loop
