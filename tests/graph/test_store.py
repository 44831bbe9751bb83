"""A saved graph is the graph, and a damaged file is named."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from spikeclip.errors import InputError
from spikeclip.graph import execute, load_graph, save_graph
from spikeclip.graph.lower import lower


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
