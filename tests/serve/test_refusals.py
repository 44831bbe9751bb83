"""What is broken, too large or none of a stranger's business gets a 4xx with one clear sentence."""

import resource
from pathlib import Path

import httpx
import pytest

from benchmarks.broken import bombs, pictures, uploads
from spikeclip.errors import InputError
from spikeclip.serve.app import create_app
from spikeclip.serve.settings import Settings
from tests.serve.conftest import served

GOOD = pictures()["PNG"]


def sentence(answer):
    assert answer.json().keys() == {"error"}
    said = answer.json()["error"]
    assert said
    assert "\n" not in said
    return said


def test_sixty_broken_uploads_are_refused_and_the_server_still_answers(client, index):
    secrets = [str(index.folder), str(Path(__file__).parents[2]), "site-packages", "root:", "Traceback"]
    seen = set()
    for name, method, address, options in uploads(1, 63):
        try:
            answer = client.request(method, address, **options)
        except (httpx.RemoteProtocolError, httpx.WriteError, httpx.ReadError, httpx.InvalidURL):
            continue  # what is no HTTP, or was hung up on while it still came
        assert answer.status_code < 500, (name, address, answer.text)
        if answer.status_code >= 400:
            sentence(answer)
        assert not any(secret in answer.text for secret in secrets), (name, address)
        seen.add(answer.status_code)
    assert seen >= {200, 400, 404, 422}
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused_before_it_takes_memory(client, name):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = client.post("/v1/classify", files={"picture": bombs()[name]}, data={"labels": "a,b"})
    assert answer.status_code == 400
    assert "the bound is" in sentence(answer) or "the pixels" in sentence(answer)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} KiB more"


TWO = {"labels": "a,b"}
BOMB = {"labels": ["a" * 2000, "b" * 2000, "c"], "templates": ["{c}" * 660] * 2}
FORM = b'--a\r\nContent-Disposition: form-data; name="text"\r\n\r\na\r\n--a--\r\n'
UNDEFINED = {"content-type": "multipart/form-data; boundary=a; charset=undefined"}


@pytest.mark.parametrize(
    ("method", "address", "options", "status", "said"),
    [
        ("POST", "/v1/classify", {"data": TWO}, 422, "picture: Field required"),
        ("POST", "/v1/classify", {"files": {"picture": b"x"}}, 422, "labels: Field required"),
        ("POST", "/v1/classify", {"files": {"picture": b"x"}, "data": {"labels": "a"}}, 400, "a single one always"),
        ("POST", "/v1/classify", {"files": {"picture": b""}, "data": TWO}, 400, "is empty"),
        ("POST", "/v1/classify", {"files": {"picture": GOOD}, "data": {**TWO, "templates": "c"}}, 400, "lacks {c}"),
        ("POST", "/v1/classify", {"files": {"picture": b"x"}, "data": {"labels": "a," * 600}}, 400, "the bound is 512"),
        ("POST", "/v1/classify", {"files": {"picture": b"x"}, "data": BOMB}, 400, "5,293,200 characters, the bound"),
        ("POST", "/v1/embed/text", {"json": {"texts": ["a" * 2000] * 66}}, 400, "132,000 characters, the bound is"),
        ("POST", "/knn-service", {"json": {"text": "a" * 2001}}, 422, "text: String should have at most 2000"),
        ("POST", "/v1/search", {"content": FORM, "headers": UNDEFINED}, 400, "not text in the charset"),
        ("POST", "/v1/embed/image", {"files": [("pictures", b"x")] * 33}, 400, "33 pictures, the bound is 32"),
        ("POST", "/v1/embed/text", {"json": {"texts": ["a"] * 513}}, 400, "513 texts, the bound is 512"),
        ("POST", "/v1/embed/text", {"content": '{"a', "headers": {"content-type": "application/json"}}, 400, "JSON"),
        ("POST", "/v1/search", {"json": {}}, 422, "one of: text and picture, vector, like"),
        ("POST", "/v1/search", {"json": {"vector": [1, 2]}}, 422, "2 numbers, this model has 512"),
        ("POST", "/v1/search", {"json": {"text": "a", "place": 1}}, 422, "place: Extra inputs are not permitted"),
        ("POST", "/v1/search", {"json": {"text": "a", "where": "no filter !"}}, 400, "no filter !"),
        ("POST", "/v1/search", {"data": {"picture": "x"}}, 422, "a text came where a file was expected"),
        ("POST", "/v1/search", {"content": "a", "headers": {"content-type": "text/csv"}}, 415, "a body of text/csv"),
        ("GET", "/v1/search?like=unknown", {}, 404, "no picture of the index has this id"),
        ("GET", "/v1/pictures/unknown", {}, 404, "no picture of the index has this id"),
        ("GET", "/v1/pictures/..%2f..%2fetc%2fpasswd", {}, 404, "nothing at this address"),
        ("GET", "/../app.py", {}, 404, "nothing at this address"),
        ("PUT", "/v1/search", {}, 405, "another method"),
        ("POST", "/v1/inspect", {"files": {"picture": b"x"}, "data": {"layers": "stem"}}, 400, "unknown layer 'stem'"),
        ("POST", "/v1/inspect", {"files": {"picture": b"\xff\xd8"}}, 400, "the picture cannot be read"),
        ("POST", "/knn-service", {"json": {"text": "a", "modality": "text"}}, 400, "this index holds pictures"),
        ("POST", "/knn-service", {"json": {}}, 400, "nothing to search for"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_sentence(client, method, address, options, status, said):
    answer = client.request(method, address, **options)
    assert answer.status_code == status
    assert said in sentence(answer)


def test_a_body_beyond_the_bound_is_refused_with_and_without_its_length(client):
    answer = client.post("/v1/embed/image", content=b"x" * 2_000_001)
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert "more than 2 MB" in sentence(answer)
    lists = b"[" + b"[]," * 500_000 + b"[]]"
    answer = client.post("/v1/embed/text", content=lists, headers={"content-type": "application/json"})
    assert (answer.status_code, "more than 1 MB" in sentence(answer)) == (413, True)
    for address in ("/v1/search", "/knn-service"):
        answer = client.post(address, content=lists[:-1])
        assert (answer.status_code, "values, a query has at most 20,000" in sentence(answer)) == (422, True)
    with httpx.Client(base_url=client.base_url) as other:
        try:
            answer = other.post("/v1/search", content=(b"x" * 100_000 for _ in range(60)))
        except httpx.WriteError:
            return  # it hung up while the rest still came
    assert answer.status_code == 413


def test_answers_carry_the_headers_of_a_page_that_loads_nothing_from_elsewhere(client):
    for address in ("/", "/main.js", "/healthz", "/nothing", "/v1/pictures/unknown"):
        headers = client.get(address, headers={"origin": "http://evil.example"}).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_a_token_a_host_and_no_index(encoder):
    settings = Settings(token="s3cret", hosts=("127.0.0.1",))
    with served(encoder, None, settings) as client:
        for address in ("/v1/search?text=a", "/v1/pictures/x", "/metrics", "/openapi.json"):
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cret é".encode()}):
                answer = client.get(address, headers=headers)
                wanted = 200 if address == "/openapi.json" else 401
                assert answer.status_code == wanted, (address, headers)
        assert answer.status_code == 200
        refused = client.get("/metrics")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer TOKEN" in sentence(refused)
        known = {"authorization": "Bearer s3cret"}
        assert client.get("/metrics", headers=known).status_code == 200
        assert "has no index" in sentence(client.get("/v1/search?text=a", headers=known))
        assert client.get("/readyz").json()["pictures"] is None
        for address in ("/", "/healthz", "/readyz"):
            assert client.get(address).status_code == 200
        assert "not 'evil.example'" in sentence(client.get("/healthz", headers={"host": "evil.example:80"}))


def test_an_index_of_another_model_and_an_encoder_of_recordings_are_refused(encoder, index):
    class Other:
        def __getattr__(self, name):
            return getattr(encoder, name)

        fingerprint = "another"

    with pytest.raises(InputError, match="--rebuild"):
        create_app(Other(), index)
    recordings = type(
        "Recordings", (Other,), {"image_format": type(encoder.image_format)(32, event_frames=2)}
    )
    with pytest.raises(InputError, match="reads event recordings"):
        create_app(recordings())
