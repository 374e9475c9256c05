"""HTTP/1.1 as uvicorn speaks it, but a request's head has a limit, and what is no request is told so in JSON."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.server.rest.answers import error_answer

_MAX_BYTES = 1 << 16
_BAD_REQUEST, _TOO_LARGE = 400, 431
_PUNCTUATION = b": \r\n"


class BoundedHeadsProtocol(HttpToolsProtocol):
    """A connection's protocol. Tokens are looked at when a head is whole: until then, anybody could fill the memory."""

    _head_bytes = 0
    # The parser keeps a header to itself until it ends: of one that does not, a read of the socket more is taken.
    _bytes_since_last_part = 0

    def data_received(self, data: bytes) -> None:
        """Parses what has come."""
        self._bytes_since_last_part += len(data)
        super().data_received(data)
        if self._bytes_since_last_part > _MAX_BYTES and not self.transport.is_closing():
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Begins a request."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Takes the next part of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header, or what a body in chunks has behind it."""
        self._count(len(name) + len(value) + len(_PUNCTUATION))
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Takes the next part of the body, whose size the application limits."""
        self._bytes_since_last_part = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuses what the parser has stopped at, and ends the connection."""
        if max(self._head_bytes, self._bytes_since_last_part) > _MAX_BYTES:
            answer = error_answer(f"the request's head is too large: expected at most {_MAX_BYTES} bytes", _TOO_LARGE)
        else:
            answer = error_answer(msg, _BAD_REQUEST)
        headers = (*self.server_state.default_headers, *answer.raw_headers, (b"connection", b"close"))
        head = [STATUS_LINE[answer.status_code], *(b"%s: %s\r\n" % header for header in headers), b"\r\n"]
        self.transport.write(b"".join(head) + bytes(answer.body))
        self.transport.close()

    def _count(self, size: int) -> None:
        """Adds to the head; what is raised in a callback is the parser's failure, which uvicorn answers."""
        self._bytes_since_last_part = 0
        self._head_bytes += size
        if self._head_bytes > _MAX_BYTES:
            raise ValueError("the head is too large")
