"""Every address answers what the library answers, and OpenAPI says so."""

import base64
import importlib.util
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import spikeclip
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.energy.compare import tower_energy
from spikeclip.energy.conventions import load_conventions
from spikeclip.energy.firing import measure_firing
from spikeclip.errors import InputError
from spikeclip.search import Index
from spikeclip.serve.settings import Settings
from tests.serve.conftest import served

LABELS = ["cat", "dog", "a red wall"]


def send(client, address, file, **fields):
    return client.post(address, files={"picture": (file.name, file.read_bytes())}, data=fields)


def test_classify_gives_the_scores_of_the_library(client, encoder, collection):
    answer = send(client, "/v1/classify", collection[0], labels=LABELS, templates=["a {c}", "the {c}"])
    (expected,) = spikeclip.classify(encoder, [collection[0]], LABELS, ["a {c}", "the {c}"])
    found = answer.json()
    assert found["model"] == "spikeclip-lite0"
    assert [score["label"] for score in found["scores"]] == [entry["label"] for entry in expected]
    for score, entry in zip(found["scores"], expected, strict=True):
        assert score["score"] == pytest.approx(entry["score"], abs=1e-5)
    one = send(client, "/v1/classify", collection[0], labels="cat, dog ,a red wall", top=1).json()["scores"]
    (best,) = spikeclip.classify(encoder, [collection[0]], LABELS, top=1)
    assert [entry["label"] for entry in one] == [best[0]["label"]]


def test_embeddings_are_those_of_the_encoder(client, encoder, collection):
    files = [("pictures", file.read_bytes()) for file in collection[:3]]
    found = client.post("/v1/embed/image", files=files).json()
    np.testing.assert_allclose(found["embeddings"], encoder.encode_image(collection[:3]), atol=1e-6)
    assert (found["dim"], found["fingerprint"]) == (encoder.dim, encoder.fingerprint)
    texts = ["a red bus", "ein Bus", ""]
    found = client.post("/v1/embed/text", json={"texts": texts}).json()
    np.testing.assert_allclose(found["embeddings"], encoder.encode_text(texts), atol=1e-6)


def test_requests_at_a_time_get_their_own_answers(client, encoder, collection):
    rows = encoder.encode_image(collection)

    def ask(i):
        files = [("pictures", collection[i].read_bytes())]
        return client.post("/v1/embed/image", files=files).json()["embeddings"][0]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(len(collection))))
    np.testing.assert_allclose(found, rows, atol=1e-5)
    text = client.get("/metrics").text
    assert 'spikeclip_requests_total{route="/v1/embed/image",status="200"}' in text
    batches = float(text.split('spikeclip_batch_inputs_count{kind="image"} ')[1].split("\n")[0])
    inputs = float(text.split('spikeclip_batch_inputs_sum{kind="image"} ')[1].split("\n")[0])
    assert inputs >= batches + 5  # some went together


def test_search_is_exact_and_its_pages_are_the_whole(client, encoder, index, collection):
    scores = encoder.encode_image(collection) @ encoder.encode_text(["a red wall"])[0]
    order = [collection[i].name for i in np.argsort(-scores, kind="stable")]
    pages, cursor = [], None
    while True:
        query = {"text": "a red wall", "limit": 7, **({"cursor": cursor} if cursor else {})}
        page = client.get("/v1/search", params=query).json()
        assert client.post("/v1/search", json=query).json() == page
        pages += page["results"]
        cursor = page["next"]
        if cursor is None:
            break
    assert [found["name"] for found in pages] == order
    assert [found["score"] for found in pages] == pytest.approx(sorted(scores, reverse=True), abs=1e-3)
    wide = client.get(
        "/v1/search", params={"text": "a red wall", "where": "width >= 400", "limit": 200}
    ).json()
    assert [found["name"] for found in wide["results"]] == [
        found["name"] for found in pages if found["width"] >= 400
    ]


def test_a_picture_finds_itself_as_a_file_a_vector_and_an_id(client, encoder, collection):
    file = collection[4]
    by_file = send(client, "/v1/search", file, limit=3).json()["results"]
    vector = encoder.encode_image([file])[0].astype(float).tolist()
    by_vector = client.post("/v1/search", json={"vector": vector, "limit": 3}).json()["results"]
    by_id = client.get("/v1/search", params={"like": by_file[0]["id"], "limit": 3}).json()["results"]
    for found in (by_file, by_vector, by_id):
        assert found[0]["name"] == file.name
        assert found[0]["score"] == pytest.approx(1, abs=2e-3)
        assert [entry["id"] for entry in found] == [entry["id"] for entry in by_file]
    away = send(client, "/v1/search", file, without="a red wall", limit=1).json()["results"][0]
    assert away["score"] < 0.999


def test_a_thumbnail_is_what_the_network_sees_of_an_indexed_file(client, collection):
    found = send(client, "/v1/search", collection[4], limit=1).json()["results"][0]
    answer = client.get(found["thumbnail"], params={"size": 64})
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (64, 64)


def test_a_file_that_changed_since_it_was_indexed_is_not_shown(client, collection):
    file = collection[-1]
    found = send(client, "/v1/search", file, limit=1).json()["results"][0]
    content, facts = file.read_bytes(), file.stat()
    try:
        file.write_bytes(b"a secret")
        answer = client.get(found["thumbnail"])
        assert answer.status_code == 404
        assert "has changed" in answer.json()["error"]
        file.unlink()
        assert "is gone" in client.get(found["thumbnail"]).json()["error"]
    finally:
        file.write_bytes(content)
        os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_inspect_shows_the_spikes_and_the_ledger_of_this_picture(client, encoder, collection):
    chosen = ["blocks.11.spike", "head_spike"]
    found = send(client, "/v1/inspect", collection[3], layers=chosen).json()
    counts = SpikeCounts()
    encoder.encode_image([collection[3]], counts)
    summary = counts.summary()
    assert found["rate"] == pytest.approx(summary["mean_rate"])
    assert found["density"] == pytest.approx(summary["mean_density"])
    assert {f"image.{layer['name']}": layer["rate"] for layer in found["layers"]} == pytest.approx(
        summary["rates"]
    )

    pixels = spikeclip.preprocess(encoder, [collection[3]])
    graph = encoder.image.graph
    _, groups = measure_firing(lambda batch, watch: encoder.image(batch, watch), [pixels])
    joules = tower_energy(graph, groups, load_conventions())["joules"]
    assert {row["network"]: row["joules"] for row in found["energy"]} == joules
    int8, twin = (joules[name]["L1"] for name in ("spiking, int8 weights", "ANN twin, int8"))
    assert ("times the" in found["sentences"][0]) == (int8 > twin)

    assert [raster["name"] for raster in found["rasters"]] == chosen
    signed, head = found["rasters"]
    assert signed["signed"]
    assert min(map(min, signed["rows"])) < 0
    watched = {}
    encoder.image(pixels, lambda name, level: watched.update({name: level}))
    level_N = watched["head_spike"].reshape(-1)
    places = np.linspace(0, len(level_N) - 1, 96).astype(int)
    assert head["rows"] == [[n] for n in level_N[places].tolist()]
    np.testing.assert_allclose(head["map"], watched["head_spike"][0, 0].mean(-1), atol=1e-3)


def clip_client():
    """clip-retrieval's own client, without the package around it, which imports PyTorch and FAISS."""
    pytest.importorskip("requests", reason="requests is not installed, which clip-retrieval's client needs")
    found = importlib.util.find_spec("clip_retrieval")
    if found is None:
        pytest.skip("clip-retrieval is not installed: pip install --no-deps clip-retrieval")
    (folder,) = found.submodule_search_locations
    spec = importlib.util.spec_from_file_location("clip_client", Path(folder) / "clip_client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ClipClient


def test_clip_retrievals_own_client_is_answered(client, encoder, collection):
    asked = {"indice_name": "any", "num_images": 5, "deduplicate": False}
    ours = clip_client()(url=f"{client.base_url}/knn-service", **asked)
    scores = encoder.encode_image(collection) @ encoder.encode_text(["a red wall"])[0]
    by_text = ours.query(text="a red wall")
    assert [found["caption"] for found in by_text] == [collection[i].name for i in np.argsort(-scores)[:5]]
    assert by_text[0]["similarity"] == pytest.approx(scores.max(), abs=1e-3)
    by_image = ours.query(image=str(collection[4]))
    assert by_image[0]["caption"] == collection[4].name
    assert Image.open(io.BytesIO(client.get(by_image[0]["url"]).content)).size == (256, 256)
    vector = encoder.encode_image([collection[4]])[0].astype(float).tolist()
    assert ours.query(embedding_input=vector)[0]["id"] == by_image[0]["id"]


def test_what_that_client_sends_is_answered_where_it_is_not_installed(client, collection):
    """Its request as its source has it: JSON without a content type, every field there, None for what is not asked."""
    image = base64.b64encode(collection[4].read_bytes()).decode()
    body = {
        "text": None, "image": image, "image_url": None, "embedding_input": None, "deduplicate": True,
        "use_safety_model": True, "use_violence_detector": True, "indice_name": "any", "use_mclip": False,
        "aesthetic_score": 9, "aesthetic_weight": 0.5, "modality": "image", "num_images": 40, "num_result_ids": 40,
    }  # fmt: skip
    found = client.post("/knn-service", content=json.dumps(body)).json()
    assert found[0]["caption"] == collection[4].name
    assert found[0].keys() == {"id", "similarity", "url", "caption"}
    refused = client.post(
        "/knn-service", content=json.dumps({**body, "image": None, "image_url": "http://x/y"})
    )
    assert refused.status_code == 400
    assert "opens no addresses" in refused.json()["error"]


def test_pictures_that_are_alike_are_left_out_where_that_client_asks_for_it(client, encoder, collection):
    vectors = encoder.encode_image(collection).astype(np.float16).astype(np.float32)
    kept = []
    ranked = np.argsort(-(vectors @ encoder.encode_text(["a red wall"])[0]))
    for place, i in enumerate(ranked):
        if not (vectors[ranked[:place]] @ vectors[i] > 0.94).any():
            kept.append(collection[i].name)
    assert 5 < len(kept) < 25

    def asked(**fields):
        body = {"text": "a red wall", "modality": "image", "num_images": 30, **fields}
        return [found["caption"] for found in client.post("/knn-service", content=json.dumps(body)).json()]

    assert asked(deduplicate=True) == kept
    assert asked(deduplicate=True, num_images=4, num_result_ids=30) == kept[:4]
    assert asked() == asked(deduplicate=False) == [collection[i].name for i in ranked]


def test_openapi_names_every_address_with_its_types(client):
    found = client.get("/openapi.json").json()
    expected = {
        "/v1/classify", "/v1/embed/image", "/v1/embed/text", "/v1/search", "/v1/pictures/{id}", "/v1/inspect",
        "/knn-service", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    assert found["paths"].keys() == expected
    assert found["paths"]["/v1/search"].keys() == {"get", "post"}
    assert found["components"]["schemas"]["Inside"]["properties"].keys() >= {"layers", "rasters", "energy"}
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["pictures"] == 30


def test_an_index_that_is_taken_away_and_comes_back(encoder, collection, tmp_path):
    made = Index.create(tmp_path / "db", encoder)
    made.add(encoder, collection[:2])
    with served(encoder, made) as client:
        assert len(client.get("/v1/search?text=a").json()["results"]) == 2
        (id_,) = [found["id"] for found in client.get("/v1/search?text=a&limit=1").json()["results"]]
        (tmp_path / "db").rename(tmp_path / "away")
        for address in ("/v1/search?text=a", f"/v1/search?like={id_}", f"/v1/pictures/{id_}"):
            answer = client.get(address)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert str(tmp_path) not in answer.text
        (tmp_path / "away").rename(tmp_path / "db")
        assert len(client.get("/v1/search?text=a").json()["results"]) == 2
    with served(encoder, made) as client:
        (tmp_path / "db").rename(tmp_path / "away")
        answer = client.get("/readyz")
        while answer.status_code == 200:  # counted a moment ago
            answer = client.get("/readyz")
        assert answer.status_code == 503
        assert str(tmp_path) not in answer.text


def test_a_thumbnail_of_a_file_that_became_a_pipe_or_a_link_is_not_waited_for(client, collection):
    file = collection[-2]
    found = send(client, "/v1/search", file, limit=1).json()["results"][0]
    kept = file.with_name("kept")
    file.rename(kept)
    try:
        os.mkfifo(file)
        assert "has changed" in client.get(found["thumbnail"]).json()["error"]
        file.unlink()
        file.symlink_to("/etc/passwd")
        assert "has changed" in client.get(found["thumbnail"]).json()["error"]
    finally:
        file.unlink()
        kept.rename(file)
    assert client.get(found["thumbnail"]).status_code == 200


@pytest.mark.parametrize("token", ["", "é", "a b", "\udcff", "a\n"])
def test_a_token_that_no_header_can_carry_is_refused(token):
    with pytest.raises(InputError, match="ASCII"):
        Settings(token=token)
