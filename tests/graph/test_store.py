"""A saved graph is the graph, and a damaged file is named."""

import hashlib
import json

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
    with pytest.raises(InputError, match="cannot be read"):
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
    with pytest.raises(InputError, match="; run `spikeclip lower .*` again") as error:
        load_graphs(tmp_path)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["image.json", "image.safetensors", "text.json", "text.safetensors"])
def test_a_missing_file_of_a_graph_is_named(saved, small, tmp_path, name):
    image, _ = saved
    write_graphs(SavedGraphs(image, lower(small("spikeclip-tiny").text), 10.0), tmp_path)
    (tmp_path / "graph" / name).unlink()
    with pytest.raises(InputError, match=f"graph lacks {name}; run `spikeclip lower"):
        load_graphs(tmp_path)


def test_graphs_are_not_written_through_a_link(saved, small, tmp_path):
    image, _ = saved
    graphs = SavedGraphs(image, lower(small("spikeclip-tiny").text), 10.0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").mkdir()
    link = tmp_path / "model" / "graph"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="graph is a symbolic link, and graphs are written to a folder"):
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
    with pytest.raises(InputError, match="readout.linear: bias_O holds NaN, infinity or numbers beyond"):
        save_graphs(model, tmp_path)
    assert not (tmp_path / "graph").exists()


def test_a_graph_without_an_input_is_refused(saved):
    graph, path = saved
    for rest in ([], graph.ops[1:]):
        save_graph(Graph(rest), path)
        with pytest.raises(InputError, match="begins with Image or Tokens"):
            load_graph(path)
