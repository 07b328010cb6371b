"""The HTTP service of the example: it knows the weather, and publishes reports, each of them once.

    python -m examples.every_kind.service --port 0

prints its address and serves until it is ended. What was published lies on disk under the idempotency key it came with,
so a request that is repeated after a crash is answered as the first one was, and nothing is published twice.

May import: examples.every_kind.ledger, stdlib.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from examples.every_kind.ledger import work

WEATHER = {"Bergen": {"sky": "rain", "degrees": 9}, "Rome": {"sky": "sun", "degrees": 24}}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """`/forecast?city=…`: tell the weather."""
        parts = urlsplit(self.path)
        if parts.path == "/":
            self.answer(200, {"ok": True})
            return
        city = parse_qs(parts.query).get("city", [""])[0]
        with work("forecast"):
            weather = WEATHER.get(city)
        if weather is None:
            self.answer(404, {"error": f"no weather is known for {city!r}", "known": sorted(WEATHER)})
        else:
            self.answer(200, {"city": city, **weather})

    def do_POST(self) -> None:
        """`/reports`: publish a report."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key = self.headers.get("Idempotency-Key") or hashlib.sha256(body).hexdigest()
        folder = Path(os.environ["EVERY_KIND_HOME"]) / "published"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
        with work(
            "publish"
        ):  # the answer comes after the effect: whoever is killed between them leaves it done
            is_new = publish(target, body)
        self.answer(201 if is_new else 200, {"published": target.stem, "is_new": is_new})

    def answer(self, status: int, value: Any) -> None:
        """Send a JSON answer."""
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the library's name)
        """Say nothing."""


def publish(target: Path, body: bytes) -> bool:
    """Put a report into its place unless it lies there; return whether it is new."""
    if target.exists():
        return False
    whole = target.with_suffix(f".{os.getpid()}")
    whole.write_bytes(body)
    whole.replace(target)
    return True


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
