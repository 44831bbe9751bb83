"""A saved graph is the graph, and a damaged file is named."""

import dataclasses
import hashlib
import json
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from spikeclip.errors import InputError
from spikeclip.graph import Graph, execute, load_graph, save_graph
from spikeclip.graph.lower import lower
from spikeclip.graph.saved import SavedGraphs, load_graphs, save_graphs, write_graphs


@pytest.fixture
def saved(small, tmp_path):
    model = small("spikeclip-tiny", neuron="lif", T=2, v_reset=None)
    graph = lower(model.image, model.config.image)
    save_graph(graph, tmp_path / "image")
    return graph, tmp_path / "image"


def test_round_trip(saved, pictures):
    graph, path = saved
    pictures = pictures.permute(0, 2, 3, 1).numpy().astype(np.float32)
    loaded = load_graph(path)
    assert [(type(op), op.name, op.inputs) for op in loaded.ops] == [
        (type(op), op.name, op.inputs) for op in graph.ops
    ]
    np.testing.assert_array_equal(execute(loaded, pictures), execute(graph, pictures))


def test_saving_again_replaces(saved):
    graph, path = saved
    save_graph(graph, path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["image.json", "image.safetensors"]


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="spikeclip lower MODEL"):
        load_graph(tmp_path / "image")


def test_a_setting_that_an_older_file_lacks_has_its_default(saved, pictures):
    graph, path = saved
    text = path.with_name("image.json")
    described = json.loads(text.read_text())
    convolutions = [row for row in described["ops"] if row["op"] == "Conv"]
    assert [row.pop("stride") for row in convolutions]
    text.write_text(json.dumps(described))
    pictures = pictures.permute(0, 2, 3, 1).numpy().astype(np.float32)
    np.testing.assert_array_equal(execute(load_graph(path), pictures), execute(graph, pictures))


def test_damaged_files(saved):
    _, path = saved
    text, weights = path.with_name("image.json"), path.with_name("image.safetensors")
    good = json.loads(text.read_text())

    text.write_text(json.dumps({**good, "format": 99}))
    with pytest.raises(InputError, match="format 99"):
        load_graph(path)

    text.write_text(json.dumps({**good, "ops": [{**good["ops"][0], "op": "Dream"}]}))
    with pytest.raises(InputError, match="unknown operation at 'image'"):
        load_graph(path)

    text.write_text(json.dumps(good))
    arrays = load_file(weights)
    arrays.pop("whiten.bias_O")
    save_file(arrays, weights)
    with pytest.raises(InputError, match="fields of 'whiten' do not fit Conv"):
        load_graph(path)

    weights.write_bytes(b"not a safetensors file")
    with pytest.raises(InputError, match="is not a readable safetensors file"):
        load_graph(path)


def test_a_graph_of_another_input_is_refused(saved, small, tmp_path):
    """The towers of a model must read what their names say: pictures and texts."""
    image, _ = saved
    text = lower(small("spikeclip-tiny").text)
    write_graphs(SavedGraphs(image, text, 10.0), tmp_path)
    graphs = load_graphs(tmp_path)
    assert (graphs.image.input.shape, graphs.text.input.length) == ((32, 32, 3), 77)
    write_graphs(SavedGraphs(image, image, 10.0), tmp_path)
    with pytest.raises(InputError, match="text is a graph that reads Image, expected Tokens"):
        load_graphs(tmp_path)
    write_graphs(SavedGraphs(text, text, 10.0), tmp_path)
    with pytest.raises(InputError, match="image is a graph that reads Tokens, expected Image"):
        load_graphs(tmp_path)


def test_towers_of_different_embeddings_are_refused(saved, small, tmp_path):
    image, _ = saved
    other = lower(small("spikeclip-tiny", embed_dim=8).text)
    write_graphs(SavedGraphs(image, other, 10.0), tmp_path)
    with pytest.raises(InputError, match="embeds pictures and texts in 16 and 8 dimensions"):
        load_graphs(tmp_path)


def edit_padding(text):
    return text.replace('"padding": 1', '"padding": 0', 1)


EDITS = {
    "graph/image.json": lambda data: edit_padding(data.decode()).encode(),
    "graph/image.safetensors": lambda data: data[:-4] + b"\0\0\0\0",
    "graph/text.json": lambda data: data.replace(b'"tau": 2.0', b'"tau": 2.5', 1),
    "graph/text.safetensors": lambda data: data[:-4] + b"\0\0\0\0",
    "graph/model.json": lambda data: data.replace(b'"logit_scale": 10.0', b'"logit_scale": 20.0'),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("weights", [True, False])
def test_graphs_that_were_changed_are_refused(saved, small, tmp_path, name, weights):
    """Even where every number fits, and whether the weights lie beside them or not."""
    image, _ = saved
    graphs = SavedGraphs(image, lower(small("spikeclip-tiny").text), 10.0, hashlib.sha256(b"w").hexdigest())
    if weights:
        (tmp_path / "model.safetensors").write_bytes(b"w")
    write_graphs(graphs, tmp_path)
    load_graphs(tmp_path)
    file = tmp_path / name
    before = file.read_bytes()
    file.write_bytes(EDITS[name](before))
    assert file.read_bytes() != before
    with pytest.raises(InputError, match="was changed after `spikeclip lower`; run `spikeclip lower"):
        load_graphs(tmp_path)
    file.write_bytes(before)
    load_graphs(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "3", '"text"', "{}", '{"logit_scale": "ten"}', "[" * 100_000, b"\xff\xfe", None]
    + [dict(logit_scale=scale) for scale in (float("nan"), -1.0, 0.0, 1e9, "10", True, None)]
    + [{"weights": 3}, {"graphs": None}, {"fingerprint": []}, {"more": 1}],
)  # fmt: skip
def test_a_damaged_model_json_is_one_line(saved, small, tmp_path, content):
    image, _ = saved
    write_graphs(SavedGraphs(image, lower(small("spikeclip-tiny").text), 10.0), tmp_path)
    file = tmp_path / "graph" / "model.json"
    if isinstance(content, dict):
        content = json.dumps({**json.loads(file.read_text()), **content})
    if content is None:  # the last half is missing
        content = file.read_text()[: file.stat().st_size // 2]
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"; run `spikeclip lower .*` again") as error:
        load_graphs(tmp_path)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["image.json", "image.safetensors", "text.json", "text.safetensors"])
def test_a_missing_file_of_a_graph_is_named(saved, small, tmp_path, name):
    image, _ = saved
    write_graphs(SavedGraphs(image, lower(small("spikeclip-tiny").text), 10.0), tmp_path)
    (tmp_path / "graph" / name).unlink()
    with pytest.raises(InputError, match=f"graph lacks {name}; run `spikeclip lower"):
        load_graphs(tmp_path)


HOSTILE = [
    ("groups.0.conv", "padding", -1, "groups.0.conv: padding is a whole number between 0 and 65,535, got -1"),
    ("groups.0.conv", "padding", 10**9, "padding is a whole number between 0 and 65,535, got 1000000000"),
    ("groups.0.conv", "padding", 9, "groups.0.conv: a filter of 3 x 3 with padding 9"),
    ("groups.0.conv", "padding", "1", "padding is a whole number between 0 and 65,535, got '1'"),
    ("groups.0.conv", "padding", True, "padding is a whole number between 0 and 65,535, got True"),
    ("groups.0.conv", "padding", 1.0, "padding is a whole number between 0 and 65,535, got 1.0"),
    ("groups.0.conv", "stride", 0, "groups.0.conv: stride is a whole number between 1 and 65,535, got 0"),
    ("groups.0.conv", "dilation", 2, "the fields of 'groups.0.conv' do not fit Conv"),
    ("groups.0.conv", "bias_O", [0.0], "the fields of 'groups.0.conv' do not fit Conv"),
    ("groups.0.conv", "inputs", [], "groups.0.conv: Conv reads 1 values, got 0"),
    (
        "groups.0.conv",
        "inputs",
        ["groups.2"],
        "groups.0.conv reads 'groups.2', and no operation before it has",
    ),
    ("groups.0.conv", "inputs", "image", "groups.0.conv: inputs is a list of names, got 'image'"),
    ("groups.0", "size", 10**6, "groups.0: size is a whole number between 1 and 65,535, got 1000000"),
    ("groups.0", "size", 60_000, "groups.0: a window of 60000 does not fit in 31 positions"),
    ("groups.1", "T", 10**9, "groups.1: T is a whole number between 1 and 65,535, got 1000000000"),
    ("groups.1", "T", 3, "all neurons and readouts have one number of time steps, got [2, 3]"),
    ("groups.1", "D", 0, "groups.1: D is a whole number between 1 and 255, got 0"),
    ("groups.1", "D", 10**9, "groups.1: D is a whole number between 1 and 255, got 1000000000"),
    ("groups.1", "tau", float("nan"), "groups.1: tau is a number between 1 and 1,000,000.0, got nan"),
    ("groups.1", "tau", 10**400, "groups.1: tau is a number between 1 and 1,000,000.0, got a huge number"),
    (
        "groups.1",
        "v_reset",
        float("inf"),
        "v_reset is a number between -1,000,000.0 and 1,000,000.0 or null, got inf",
    ),
    ("groups.1", "kind", "dream", "groups.1: kind is one of lif, ilif, relu, got 'dream'"),
    ("groups.1", "substeps", 4, "groups.1: its sub-steps are not those of what it reads"),
    ("blocks.0.attention.product", "num_heads", 3, "16 channels do not divide into 3 heads"),
    (
        "image",
        "shape",
        [10**6, 10**6, 3],
        "image: shape is a list, a whole number between 1 and 1,024, a whole",
    ),
    ("image", "shape", [32, 32, 4], "axis I is 4 in image, and 3 in weight_RSIO"),
    ("image", "std", [1.0, 0.0, 1.0], "image: std is a list, each a number between 1e-06 and 1,000,000.0"),
    ("image", "mean", [0.0], "mean and std have one number for each of the 3 channels, got 1 and 3"),
    ("text", "length", 10**9, "text: length is a whole number between 1 and 65,535, got 1000000000"),
    ("text", "length", 78, "embedding: texts of 78 tokens, and 77 positions"),
    ("text", "eos_id", 60, "mask: eos_id is 59, that of text 60"),
    ("mask", "inputs", ["embedding"], "mask reads 'embedding', and no operation before it has this name"),
    ("mean", "inputs", ["mask", "mask"], "mean: Mean reads values, and mask is a mask"),
]


@pytest.mark.parametrize(("name", "field", "value", "message"), HOSTILE, ids=lambda x: str(x)[:30])
def test_fields_that_do_not_fit_are_named(saved, small, name, field, value, message):
    """Before anything of their size is made."""
    image, path = saved
    text = lower(small("spikeclip-tiny").text)
    if name not in [op.name for op in image.ops] or field == "length":
        save_graph(text, path)
    file = path.with_name("image.json")
    described = json.loads(file.read_text())
    next(row for row in described["ops"] if row["name"] == name)[field] = value
    file.write_text(json.dumps(described))
    tracemalloc.start()
    with pytest.raises(InputError) as error:
        load_graph(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message in str(error.value)
    assert peak < 20e6


@pytest.mark.parametrize("preset", ["spikeclip-paper", "spikeclip-base", "spikeclip-tiny"])
def test_every_array_of_another_size_is_refused(small, tmp_path, preset):
    """Channels, vocabulary and time steps: each size is also that of something else."""
    model = small(preset, neuron="lif", T=2)
    for graph in (lower(model.image, model.config.image), lower(model.text)):
        save_graph(graph, tmp_path / "graph")
        weights = tmp_path / "graph.safetensors"
        arrays = load_file(weights)
        for name, array in arrays.items():
            letters = name.rpartition("_")[2] if "_" in name else ""
            for axis, letter in enumerate(letters):
                if array.shape[axis] == 1 or letter in "RSL":
                    continue
                for size in (0, 1, array.shape[axis] - 1):
                    cut = np.ascontiguousarray(np.take(array, np.arange(size), axis))
                    save_file({**arrays, name: cut}, weights)
                    with pytest.raises(InputError, match="is not a graph that can run"):
                        load_graph(tmp_path / "graph")
            for other in (array.astype(np.int8), array.astype(bool), array.astype(np.float64), array[None]):
                save_file({**arrays, name: other}, weights)
                with pytest.raises(InputError, match="is float32 of the axes"):
                    load_graph(tmp_path / "graph")


def test_a_header_that_promises_more_than_the_file_has(saved):
    _, path = saved
    header = b'{"x": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 4000000000000]}}'
    path.with_name("image.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match="is not a readable safetensors file"):
        load_graph(path)


def test_graphs_are_not_written_through_a_link(saved, small, tmp_path):
    image, _ = saved
    graphs = SavedGraphs(image, lower(small("spikeclip-tiny").text), 10.0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").mkdir()
    link = tmp_path / "model" / "graph"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"graph is a symbolic link, to .*elsewhere"):
        write_graphs(graphs, tmp_path / "model")
    assert not list((tmp_path / "elsewhere").iterdir())
    link.unlink()
    link.write_text("not a folder")
    with pytest.raises(InputError, match="graph is a file"):
        write_graphs(graphs, tmp_path / "model")


def test_a_model_with_weights_that_are_no_numbers_is_not_written(small, tmp_path):
    model = small("spikeclip-tiny")
    model.image.readout.linear.bias.data[0] = float("nan")
    (tmp_path / "model.safetensors").write_bytes(b"w")
    with pytest.raises(InputError, match=r"readout\.linear: bias_O holds NaN, infinity or numbers beyond"):
        save_graphs(model, tmp_path)
    assert not (tmp_path / "graph").exists()


def test_a_graph_without_an_input_is_refused(saved):
    graph, path = saved
    for rest in ([], graph.ops[1:]):
        save_graph(Graph(rest), path)
        with pytest.raises(InputError, match="begins with Image or Tokens"):
            load_graph(path)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_int8_is_a_quarter_of_the_size_and_near(small, pictures, tokens, tmp_path, tower):
    model = small("spikeclip-lite0", neuron="relu", embed_dim=64)
    graph = lower(model.image, model.config.image) if tower == "image" else lower(model.text)
    save_graph(graph, tmp_path / "whole")
    save_graph(graph, tmp_path / "small", int8=True)
    stored = load_file(tmp_path / "small.safetensors")
    assert {array.dtype.name for array in stored.values()} == {"int8", "float32"}
    loaded = load_graph(tmp_path / "small")
    for before, after in zip(graph.ops, loaded.ops, strict=True):
        for field in dataclasses.fields(before):
            wanted, found = getattr(before, field.name), getattr(after, field.name)
            if not isinstance(wanted, np.ndarray):
                assert found == wanted
                continue
            axis = 0 if field.name == "table_VC" else -1
            most = np.abs(np.moveaxis(wanted, axis, -1)).reshape(-1, wanted.shape[axis]).max(0)
            error = np.abs(np.moveaxis(found - wanted, axis, -1)).reshape(-1, wanted.shape[axis]).max(0)
            assert (error <= most / 254 * 1.001).all()
    again = tmp_path / "again"
    save_graph(loaded, again, int8=True)  # what is rounded stays as it is
    for name, array in load_file(f"{again}.safetensors").items():
        np.testing.assert_allclose(array, stored[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a.update({"readout.linear.weight_IO.scale": np.ones(3, np.float32)}),
            r"expected float32 \(16,\)",
        ),
        (
            lambda a: a.update({"stem.bias_O.scale": np.ones(8, np.float32)}),
            "is the scale of no array in int8",
        ),
        (lambda a: a.pop("head.weight_RSIO.scale"), "head: weight_RSIO is float32"),
    ],
)
def test_scales_that_do_not_fit(small, tmp_path, change, message):
    model = small("spikeclip-lite0")
    save_graph(lower(model.image, model.config.image), tmp_path / "image", int8=True)
    arrays = load_file(tmp_path / "image.safetensors")
    change(arrays)
    save_file(arrays, tmp_path / "image.safetensors")
    with pytest.raises(InputError, match=message):
        load_graph(tmp_path / "image")
