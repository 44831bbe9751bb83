"""What waits for the engine: gathered, bounded, answered or refused, and never lost."""

import threading
import time

import httpx
import numpy as np
import pytest

from spikeclip.errors import InputError
from spikeclip.serve.batches import Batched
from spikeclip.serve.refusals import Refused
from spikeclip.serve.settings import Settings
from tests.serve.conftest import served


class Held:
    """A real encoder whose calls wait until they are let go; `calls` holds what came and how much of it."""

    def __init__(self, encoder):
        self._encoder, self.calls, self.go = encoder, [], threading.Event()

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_image(self, images, spikes=None):
        self.calls.append(("image", len(images)))
        self.go.wait(20)
        return self._encoder.encode_image(images, spikes)

    def encode_text(self, texts):
        self.calls.append(("text", len(texts)))
        self.go.wait(20)
        if "bad" in texts:
            raise InputError("no such text")
        return self._encoder.encode_text(texts)


def in_threads(calls):
    """Start calls, in their order, and return a function that waits for what they return or raise."""
    results = [None] * len(calls)

    def run(i):
        try:
            results[i] = calls[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
        time.sleep(0.02)

    def wait():
        for thread in threads:
            thread.join()
        return results

    return wait


def test_what_came_while_the_engine_was_busy_goes_together_by_kind_and_size(encoder):
    held = Held(encoder)
    batched = Batched(held, Settings(batch=4, wait=0))
    pictures = np.random.default_rng(0).integers(0, 256, (8, *encoder.image_format.shape), np.uint8)
    calls = [lambda i=i: batched.encode_image(pictures[i : i + 1]) for i in range(6)]
    calls.insert(3, lambda: batched.encode_text(["a", "b"]))
    calls.append(lambda: batched.encode_image(pictures[6:8]))
    wait = in_threads(calls)
    held.go.set()
    *rows, last = wait()
    text = rows.pop(3)
    assert held.calls == [("image", 1), ("image", 4), ("text", 2), ("image", 3)]
    np.testing.assert_allclose(np.concatenate([*rows, last]), encoder.encode_image(pictures), atol=1e-5)
    np.testing.assert_allclose(text, encoder.encode_text(["a", "b"]), atol=1e-6)
    batched.close()


def test_one_bad_input_spoils_no_other(encoder):
    held = Held(encoder)
    batched = Batched(held, Settings(wait=0))
    wait = in_threads(
        [lambda text=text: batched.encode_text([text]) for text in ("first", "good", "bad", "fine")]
    )
    held.go.set()
    first, good, bad, fine = wait()
    assert str(bad) == "no such text"
    for row, text in ((first, "first"), (good, "good"), (fine, "fine")):
        np.testing.assert_allclose(row, encoder.encode_text([text]), atol=1e-6)
    batched.close()


def test_a_call_that_waits_too_long_is_told_so_and_closing_answers_what_waits(encoder):
    held = Held(encoder)
    batched = Batched(held, Settings(wait=0, timeout=0.3))
    wait = in_threads([lambda: batched.encode_text(["a"]), lambda: batched.encode_text(["b"])])
    for error in wait():
        assert isinstance(error, Refused)
        assert (error.status_code, error.headers["Retry-After"]) == (503, "1")
    assert held.calls == [("text", 1)]  # nobody waits for the second one any more
    held.go.set()
    wait = in_threads([lambda: batched.encode_text(["c"])])
    batched.close()
    assert wait()[0].shape == (1, encoder.dim)
    with pytest.raises(Refused, match="is stopping"):
        batched.encode_text(["d"])


def test_a_full_queue_is_503_with_retry_after_and_what_was_let_in_is_answered(encoder):
    held = Held(encoder)
    held.go.set()
    with served(held, None, Settings(queue=4)) as client:
        inside = client.post("/v1/inspect", files={"picture": b"x"})
        assert (inside.status_code, client.get("/readyz").json()["spiking"]) == (400, False)
        assert "runs without spikes that can be watched" in inside.json()["error"]
        held.go.clear()

        answers = []

        def ask():
            answers.append(client.post("/v1/embed/text", json={"texts": ["a"]}))

        wait = in_threads([ask] * 8)
        end = time.monotonic() + 60
        while len(answers) < 4 and time.monotonic() < end:
            time.sleep(0.01)
        assert [answer.status_code for answer in answers] == [503] * 4
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}
        assert "4 requests are waiting already" in answers[0].json()["error"]
        assert client.get("/healthz").status_code == 200
        assert "spikeclip_requests_now 4.0" in client.get("/metrics").text
        held.go.set()
        wait()
    assert [answer.status_code for answer in answers] == [503] * 4 + [200] * 4


def test_a_body_that_does_not_come_is_given_up(encoder):
    def slow():
        yield b'{"texts": ['
        time.sleep(1.2)
        yield b'"a"]}'

    with served(encoder, None, Settings(timeout=0.6)) as client:
        try:
            answer = client.post(
                "/v1/embed/text", content=slow(), headers={"content-type": "application/json"}
            )
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            return  # it hung up
        assert answer.status_code == 408
        assert "was not here within 0.6 seconds" in answer.json()["error"]
