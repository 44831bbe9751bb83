"""Connections that ask nothing, take nothing, or are too many end; the server still answers others."""

import resource
import socket
import time

import httpx
import pytest

from spikeclip.serve import listen
from spikeclip.serve.settings import Settings
from tests.serve.conftest import served

HOST = b"Host: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def short(encoder):
    with served(encoder, None, Settings(timeout=1.0, queue=4)) as client:
        yield client


def connected(client, receive=0):
    sock = socket.socket()
    if receive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.settimeout(20)
    sock.connect((client.base_url.host, client.base_url.port))
    return sock


def all_of(sock):
    """What still comes, until the other side ends the connection, at once or with an end."""
    got = b""
    try:
        while part := sock.recv(65536):
            got += part
    except ConnectionResetError:
        pass
    return got


@pytest.mark.parametrize(
    "start", [b"", b"GET /healthz HTTP/1.1\r\nHost: ", b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"]
)
def test_headers_that_come_byte_by_byte_are_waited_for_in_vain(short, start):
    """Also those of a second request, after one that was answered."""
    with connected(short) as sock:
        sock.sendall(start)
        end, ended = time.monotonic() + 20, False
        while not ended and time.monotonic() < end:
            time.sleep(0.2)
            try:
                sock.sendall(b"G" if start.endswith(b"\r\n\r\n") else b"x")
            except OSError:
                ended = True
        assert ended


def test_who_takes_nothing_of_the_answer_holds_no_place_in_the_queue(encoder):
    texts = b'{"texts": [' + b",".join([b'"a"'] * 512) + b"]}"
    head = b"POST /v1/embed/text HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(texts) + texts
    with served(encoder, None, Settings(timeout=2.0, queue=2), send_buffer=4096) as client:
        socks = [connected(client, 1024) for _ in range(2)]
        for sock in socks:
            sock.sendall(request + request)
        end = time.monotonic() + 30
        while "spikeclip_requests_now 0.0" in client.get("/metrics").text:
            assert time.monotonic() < end
        while "spikeclip_requests_now 0.0" not in client.get("/metrics").text:
            assert time.monotonic() < end
            time.sleep(0.05)
        for sock in socks:
            assert len(all_of(sock)) < 5_000_000
            sock.close()


def test_connections_beyond_the_bound_are_hung_up_on_and_files_can_still_be_opened(encoder, monkeypatch):
    monkeypatch.setattr(listen, "files_that_may_be_open", lambda: 40)
    with served(encoder, None, Settings(timeout=5.0)) as client:
        socks = [connected(client) for _ in range(60)]
        time.sleep(0.3)
        ended = 0
        for sock in socks:
            sock.setblocking(False)
            try:
                ended += sock.recv(1) == b""
            except ConnectionResetError:
                ended += 1
            except BlockingIOError:
                pass
        assert 40 <= ended < 60
        for sock in socks:
            sock.close()
        assert httpx.get(f"{client.base_url}/healthz", timeout=20).status_code == 200
    assert listen.files_that_may_be_open() == 40
    monkeypatch.undo()
    assert listen.files_that_may_be_open() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.mark.parametrize(
    "request_",
    [
        b"no HTTP at all\r\n\r\n",
        b"POST /v1/embed/text HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nnot a length\r\n",
        b"POST /v1/embed/text HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 100_000,
    ],
)
def test_what_is_no_http_is_one_sentence_with_the_headers_of_all_answers(short, request_, caplog):
    with connected(short) as sock:
        sock.sendall(request_)
        head, _, body = all_of(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 4")
    assert b"default-src 'none'" in head
    assert body.startswith(b'{"error":') or b"error" in body
    assert not [record for record in caplog.records if record.exc_info]
