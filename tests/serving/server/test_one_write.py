"""HTTP/1.1 on the wire."""

import json
import socket
from collections.abc import Iterator

import pytest
from running_server import Server

BODY = json.dumps({"user_id": "u3", "k": 10}).encode()
RECOMMEND = b"POST /recommend HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


@pytest.fixture
def connection(server: Server) -> Iterator[socket.socket]:
    host, _, port = server.rest.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as opened:
        yield opened


def read_answer(connection: socket.socket, received: bytes = b"") -> tuple[bytes, bytes, bytes]:
    """The head and the body of an answer, and what was received after it."""
    while b"\r\n\r\n" not in received:
        received += receive(connection)
    head, _, rest = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(rest) < length:
        rest += receive(connection)
    return head, rest[:length], rest[length:]


def receive(connection: socket.socket) -> bytes:
    received = connection.recv(1 << 16)
    assert received, "the connection was closed"
    return received


def test_the_head_and_the_body_of_an_answer_arrive_together(connection: socket.socket) -> None:
    for _ in range(20):
        connection.sendall(RECOMMEND)
        head, _, body = connection.recv(1 << 16).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert len(json.loads(body)["items"]) == 10


def test_requests_sent_at_once_on_a_connection_are_answered_in_order(connection: socket.socket) -> None:
    connection.sendall(RECOMMEND + b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n" + RECOMMEND)
    bodies, rest = [], b""
    for _ in range(3):
        _, body, rest = read_answer(connection, rest)
        bodies.append(json.loads(body))
    assert [len(bodies[0]["items"]), bodies[1], bodies[2]] == [10, {"status": "ok"}, bodies[0]]


def test_a_connection_that_is_to_be_closed_is_closed_after_the_answer(connection: socket.socket) -> None:
    connection.sendall(RECOMMEND.replace(b"Host: test", b"Connection: close"))
    head, body, rest = read_answer(connection)
    assert b"connection: close" in head
    assert len(json.loads(body)["items"]) == 10
    assert (rest, connection.recv(1)) == (b"", b"")
