"""A saved graph is the graph, and a damaged file is named."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from spikeclip.errors import InputError
from spikeclip.graph import Graph, execute, load_graph, save_graph
from spikeclip.graph.lower import lower
from spikeclip.graph.saved import load_graphs


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
    with pytest.raises(InputError, match="cannot be read"):
        load_graph(path)


def test_a_graph_of_another_input_is_refused(saved, small, tmp_path):
    """The towers of a model must read what their names say: pictures and texts."""
    image, _ = saved
    text = lower(small("spikeclip-tiny").text)
    folder = tmp_path / "graph"
    save_graph(image, folder / "image")
    save_graph(text, folder / "text")
    (folder / "model.json").write_text(json.dumps({"logit_scale": 10.0, "weights": ""}))
    graphs = load_graphs(tmp_path)
    assert (graphs.image.input.shape, graphs.text.input.length) == ((32, 32, 3), 77)
    save_graph(image, folder / "text")
    with pytest.raises(InputError, match="text is a graph that reads Image, expected Tokens"):
        load_graphs(tmp_path)
    save_graph(text, folder / "image")
    with pytest.raises(InputError, match="image is a graph that reads Tokens, expected Image"):
        load_graphs(tmp_path)


def test_a_graph_without_an_input_is_refused(saved):
    graph, path = saved
    for rest in ([], graph.ops[1:]):
        save_graph(Graph(rest), path)
        with pytest.raises(InputError, match="begins with Image or Tokens"):
            load_graph(path)
