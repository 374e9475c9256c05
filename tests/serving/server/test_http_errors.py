"""What is wrong with a request before anything answers it: told in JSON, and it costs little memory."""

import contextlib
import socket
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from running_server import Server

LARGE = 70_000
TOO_LARGE = {"error": "the request's head is too large: expected at most 65536 bytes"}
NO_HTTP = {"error": "Invalid HTTP request received."}


def send(server: Server, parts: Iterable[bytes]) -> tuple[int, Any, bytes]:
    """Sends parts until the server has had enough; returns the answer's status and JSON, and its head."""
    host, _, port = server.rest.removeprefix("http://").rpartition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        # The answer may come, and the connection be closed, before all is sent.
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(1 << 16):
                received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    answer = httpx.Response(int(head.split()[1]), content=body)
    return answer.status_code, answer.json(), head


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET /", b"a" * LARGE],
        [b"GET /%s HTTP/1.1\r\nHost: test\r\n\r\n" % (b"a" * LARGE)],
        [b"GET /healthz HTTP/1.1\r\n", *[b"A-Header: %d\r\n" % n for n in range(10_000)]],
        [b"GET /healthz HTTP/1.1\r\nA-Header: ", *[b"a" * 1000] * 1000],
        [b"GET /healthz HTTP/1.1\r\n", *[b"a" * 1000] * 1000],
        [
            b"POST /recommend HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
            *[b"A-Trailer: %d\r\n" % n for n in range(10_000)],
        ],
        [b"POST /recommend HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;", *[b"a" * 1000] * 1000],
    ],
    ids=["path", "whole", "headers", "header", "name", "trailers", "extension"],
)
def test_a_head_that_is_too_large_is_431(server: Server, parts: list[bytes]) -> None:
    status, content, head = send(server, parts)
    assert (status, content) == (431, TOO_LARGE)
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"content-type: application/json\r\n" in head
    assert b"connection: close" in head


def test_a_large_head_is_taken_and_counted_for_each_request_of_a_connection(server: Server) -> None:
    for _ in range(3):
        assert server.http.get("/healthz", headers={"a-header": "a" * 60_000}).status_code == 200
    assert server.http.post("/recommend", content=b" " * 200_000 + b"{}").status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01 no HTTP\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"CONNECT test:80 HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno header\r\n\r\n",
        b"POST /recommend HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST /recommend HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n",
    ],
)
def test_what_is_no_http_is_400(server: Server, content: bytes) -> None:
    status, answer, head = send(server, [content])
    assert (status, answer) == (400, NO_HTTP)
    assert b"content-type: application/json\r\n" in head


@pytest.mark.parametrize(
    ("verb", "path", "status", "message"),
    [
        ("GET", "/nothing", 404, "Not Found"),
        ("GET", "/docs-assets/nothing", 404, "Not Found"),
        ("POST", "/healthz", 405, "Method Not Allowed"),
        ("GET", "/recommend", 405, "Method Not Allowed"),
        ("DELETE", "/", 405, "Method Not Allowed"),
        ("PROPFIND", "/v2", 405, "Method Not Allowed"),
        ("PUT", "/v1/models/tiny", 400, "Malformed request: PUT /v1/models/tiny"),
        ("GET", "/v1/none", 400, "Malformed request: GET /v1/none"),
        ("POST", "/v1/models/none:predict", 400, "JSON Parse error: "),
        ("GET", "/items", 400, "query: field required"),
        ("POST", "/admin/reload", 403, "the server has no admin tokens: start it with security.tokens"),
    ],
)
def test_whatever_is_wrong_is_told_in_json(server: Server, verb: str, path: str, status: int, message: str) -> None:
    answer = server.http.request(verb, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(message)
