"""A real HTTP service for tests, which misbehaves on request: sockets, a thread per connection, nothing in between.

It answers by path and keeps what it was sent, byte for byte. `Raw` answers are written as they are, in pieces, so that
an answer can be late, endless, cut off or nonsense.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Received:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    raw_head: bytes
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body's value."""
        return json.loads(self.body)


@dataclass
class Reply:
    """A well-formed answer."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """Return it as it stands on the wire."""
        headers = {"Content-Length": str(len(self.body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} Words", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@dataclass
class Raw:
    """Pieces that are written one after the other, `pause` seconds apart; then the connection is closed."""

    pieces: Iterable[bytes]
    pause: float = 0.0


Answer = Reply | Raw | None
"""None: no answer at all, until the other side goes away."""


def a_json(value: Any, status: int = 200, **headers: str) -> Reply:
    """Return an answer in JSON; names of headers are written with `_` for `-`."""
    named = {name.replace("_", "-"): said for name, said in headers.items()}
    return Reply(json.dumps(value).encode(), status, {"Content-Type": "application/json", **named})


def a_text(text: str, status: int = 200, **headers: str) -> Reply:
    """Return an answer in text."""
    named = {name.replace("_", "-"): said for name, said in headers.items()}
    return Reply(text.encode(), status, {"Content-Type": "text/plain", **named})


class HttpService:
    """The service. `answer` maps a path, or `*`, to what is answered there: a reply, or what makes one of a request."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.answers: dict[str, Answer | Callable[[Received], Answer]] = {}
        self.received: list[Received] = []
        self.connections = 0
        self.waiting: list[str] = []
        """Paths of requests that get no answer and are still waited for."""
        self.has_waited = threading.Event()
        self._tls = tls
        self._host = host
        self._listener = socket.create_server((host, 0))
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        """Return the port it listens at."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Return its address."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    @property
    def last(self) -> Received:
        """Return the latest request."""
        return self.received[-1]

    def close(self) -> None:
        """End everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        connection = plain
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(plain, server_side=True)
                self._open.add(connection)
            with connection.makefile("rb") as stream:
                while (request := _read(stream)) is not None:
                    self.received.append(request)
                    if not self._reply(connection, request):
                        return
        except (OSError, ssl.SSLError):
            pass
        finally:
            self._open -= {plain, connection}
            connection.close()

    def _reply(self, connection: socket.socket, request: Received) -> bool:
        """Answer one request, and say whether the connection goes on."""
        path = request.target.partition("?")[0]
        answer = self.answers.get(path, self.answers.get("*", Reply(b"no such path", 404)))
        if callable(answer):
            answer = answer(request)
        if answer is None:
            self._wait(connection, path)
            return False
        if isinstance(answer, Raw):
            for piece in answer.pieces:
                connection.sendall(piece)
                if answer.pause and select.select([connection], [], [], answer.pause)[0]:
                    return False  # the other side has gone away
            return False
        sent = answer.encoded()
        connection.sendall(sent[: -len(answer.body) or None] if request.method == "HEAD" else sent)
        return True

    def _wait(self, connection: socket.socket, path: str) -> None:
        self.waiting.append(path)
        self.has_waited.set()
        select.select([connection], [], [], 20)
        self.waiting.remove(path)


def _read(stream: Any) -> Received | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    body = stream.read(int(headers.get("content-length", 0)))
    return Received(method, target, headers, head, body)


@contextmanager
def http_service(
    answers: Mapping[str, Answer | Callable[[Received], Answer]] | None = None, **options: Any
) -> Iterator[HttpService]:
    """Give a service that answers as told, and end it."""
    service = HttpService(**options)
    service.answers.update(answers or {})
    try:
        yield service
    finally:
        service.close()


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """Return a server's context with a fresh certificate for a name or address, and the file of its authority."""
    kind = "IP" if name[0].isdigit() else "DNS"
    file, key = folder / "ca.pem", folder / "key.pem"
    key_of = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key)]
    of_whom = [
        "-subj",
        "/CN=test",
        "-addext",
        f"subjectAltName={kind}:{name}",
        "-days",
        "2",
        "-out",
        str(file),
    ]
    subprocess.run(
        ["openssl", "req", "-x509", *key_of, *of_whom], check=True, capture_output=True, timeout=30
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return context, file
