"""A model's provider on this machine: speaks OpenAI's chat completions over HTTP, streamed, and answers by a script.

May import: anyio, stdlib. What it is asked it keeps, so that tests can look.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc

PIECE_CHARS = 7
"""Of the arguments that one event carries: small, so that every token is cut somewhere."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One scripted answer."""

    arguments: str | None = None
    """JSON of the tool call, whole or broken."""
    pieces: Sequence[str] | None = None
    """The same cut where the test wants it; `seconds_between` lies between them."""
    text: str | None = None
    """Prose, or JSON, in place of a tool call."""
    refusal: str | None = None
    finish: str | None = None
    """The finish reason, where it is not the usual one."""
    status: int = 200
    error: str = ""
    """Message of an answer that is no success."""
    usage: tuple[int, int] | None = (100, 50)
    """Tokens in and out; None: it tells none."""
    is_cut: bool = False
    """The connection ends before the answer does."""
    never: bool = False
    """It begins and says nothing more."""
    seconds_between: float = 0.0
    repeats_error_key: bool = False
    """Puts the caller's key into the error, as careless endpoints do."""


def plan(tasks: Sequence[Any], thoughts: Sequence[Any] = (), **more: Any) -> Answer:
    """Return an answer that sends a plan."""
    return Answer(arguments=json.dumps({"thoughts": list(thoughts), "tasks": list(tasks), **more}))


@dataclass
class ModelServer:
    """The provider; `answers` are given in order, and the last one again and again."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the requests."""
    keys: list[str] = field(default_factory=list)
    """Their `Authorization` headers."""
    paths: list[str] = field(default_factory=list)
    cut: int = 0
    """Answers whose reader went away before their end."""
    reader_left: anyio.Event = field(default_factory=anyio.Event)
    """Set once that has happened."""
    url: str = ""
    release: anyio.Event = field(default_factory=anyio.Event)
    """Set it to let answers that say nothing end."""

    def data(self, index: int = -1) -> dict[str, Any]:
        """Return the data block of a request."""
        text = self.asked[index]["messages"][-1]["content"]
        found: dict[str, Any] = json.loads(text.split("<data>\n")[1].split("\n</data>")[0])
        return found

    def instructions(self, index: int = -1) -> str:
        """Return the instructions of a request."""
        text: str = self.asked[index]["messages"][0]["content"]
        return text

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        """Answer the requests of one connection."""
        async with stream:
            try:
                buffer = b""
                while True:
                    while b"\r\n\r\n" not in buffer:
                        buffer += await stream.receive()
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    lines = head.decode().split("\r\n")
                    headers = {
                        name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])
                    }
                    length = int(headers.get("content-length", "0"))
                    while len(buffer) < length:
                        buffer += await stream.receive()
                    body, buffer = buffer[:length], buffer[length:]
                    self.paths.append(lines[0].split(" ")[1])
                    self.asked.append(json.loads(body))
                    self.keys.append(headers.get("authorization", ""))
                    answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                    if not await self._answer(stream, answer, self.keys[-1]):
                        return
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    async def _answer(self, stream: anyio.abc.SocketStream, answer: Answer, key: str) -> bool:
        """Send an answer; False when the connection is to end."""
        if answer.status != 200:
            message = (
                f"{answer.error} {key.removeprefix('Bearer ')}" if answer.repeats_error_key else answer.error
            )
            body = json.dumps({"error": {"message": message, "type": "server_error"}}).encode()
            head = (
                f"HTTP/1.1 {answer.status} Nope\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            await stream.send(head.encode() + body)
            return True
        await stream.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        try:
            for event in _events(answer):
                await _send(stream, f"data: {json.dumps(event)}\n\n")
                if answer.seconds_between and "tool_calls" in event["choices"][0]["delta"]:
                    await anyio.sleep(answer.seconds_between)
            if answer.never:
                await self._wait_for_reader(stream)
            if answer.is_cut or answer.never:
                return False
            if answer.usage is not None:
                await _send(stream, f"data: {json.dumps(_usage(answer.usage))}\n\n")
            await _send(stream, "data: [DONE]\n\n")
            await stream.send(b"0\r\n\r\n")
        except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
            self.cut += 1
            self.reader_left.set()
            raise
        return True

    async def _wait_for_reader(self, stream: anyio.abc.SocketStream) -> None:
        """Wait until the reader leaves, or the test lets go."""
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                try:
                    await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    self.cut += 1
                    self.reader_left.set()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            await self.release.wait()
            group.cancel_scope.cancel()


async def _send(stream: anyio.abc.SocketStream, text: str) -> None:
    piece = text.encode()
    await stream.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")


def _events(answer: Answer) -> list[dict[str, Any]]:
    """Return the events of an answer, without its usage."""
    events = [_event({"role": "assistant", "content": ""})]
    pieces = list(answer.pieces or ())
    if answer.arguments is not None:
        text = answer.arguments
        pieces = [text[place : place + PIECE_CHARS] for place in range(0, len(text), PIECE_CHARS)]
    if pieces:
        call = {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "send_plan", "arguments": ""},
        }
        events.append(_event({"tool_calls": [call]}))
        events += [
            _event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces
        ]
    if answer.text is not None:
        events.append(_event({"content": answer.text}))
    if answer.refusal is not None:
        events.append(_event({"refusal": answer.refusal}))
    if not answer.is_cut and not answer.never:
        events.append(_event({}, answer.finish or ("tool_calls" if pieces else "stop")))
    return events


def _event(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o",
        "choices": [choice],
    }


def _usage(usage: tuple[int, int]) -> dict[str, Any]:
    taken_in, given_out = usage
    told = {"prompt_tokens": taken_in, "completion_tokens": given_out, "total_tokens": taken_in + given_out}
    return {**_event({}), "choices": [], "usage": told}


@asynccontextmanager
async def model_server(*answers: Answer) -> AsyncIterator[ModelServer]:
    """Run a provider that gives these answers."""
    server = ModelServer(list(answers))
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        server.url = f"http://127.0.0.1:{port}/v1"
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, server.serve)
            yield server
            group.cancel_scope.cancel()
