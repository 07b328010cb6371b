"""What may be declared of an HTTP service, and how a mistake in it is told."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import ValidationError

from orchestration.models import TaskNode
from orchestration.systems.http import HttpSpec, HttpSystem
from orchestration.systems.http_addresses import is_loopback_name, literal_address, may_connect
from tests.systems.support import a_request, failure_of

pytestmark = pytest.mark.anyio
TOKEN = "planted-secret-4711"


def a_spec(operation: dict[str, Any] | None = None, **fields: Any) -> HttpSpec:
    """Return a service of one operation."""
    declared = {"base_url": "https://api.example.com", "operations": {"op": operation or {}}, **fields}
    return HttpSpec.model_validate(declared)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"base_url": "ftp://x"}, "expected http://… or https://…"),
        ({"base_url": "https://"}, "is no host"),
        ({"base_url": "https://bücher.example"}, "write IDNs as xn--"),
        ({"base_url": "https://x:99999"}, "expected an address like"),
        ({"base_url": f"https://u:{TOKEN}@x"}, "put `Authorization` into `headers`"),
        ({"base_url": f"https://x/?key={TOKEN}"}, "put it into `query`"),
        ({"base_url": "https://x/{tenant}"}, "without placeholders"),
        ({"base_url": "https://x/a/%2e%2e/b"}, "plain segments"),
        ({"base_url": "http://0.0.0.0:80"}, "no connection can be made to"),
        ({"base_url": "http://[fe80::1%25eth0]"}, "is no host"),
        ({"headers": {"X-A": f"{TOKEN}\r\nX-B: 1"}}, "characters other than printable ASCII"),
        ({"headers": {"X A": TOKEN}}, "is no header name"),
        ({"headers": {"Host": TOKEN}}, "set by the client itself"),
        ({"headers": {"X-Key": TOKEN, "x-key": TOKEN}}, "is given twice"),
        ({"bearer_token": f"{TOKEN} x"}, "no token has"),
        ({"bearer_token": TOKEN, "headers": {"authorization": TOKEN}}, "not both"),
        ({"health": "ping"}, "expected the name of an operation: op"),
        ({"verify_tls": False, "ca_file": "ca.pem"}, "no meaning"),
        ({"operations": {}}, "at least 1 item"),
        ({"hosts": []}, "Extra inputs"),
    ],
)
def test_a_mistake_in_a_service_is_told_without_its_secrets(fields: dict[str, Any], said: str) -> None:
    """Neither the message nor anything around it shows a header's value."""
    with pytest.raises(ValidationError) as caught:
        a_spec(**fields)

    assert said in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ({"path": "users"}, "expected `/` and then segments"),
        ({"path": "/a?b=1"}, "use `query`"),
        ({"path": "/a b"}, "expected `/` and then segments"),
        ({"path": "/a/../b"}, "no segment `.` or `..`"),
        ({"path": "/100%"}, "write it as %25"),
        ({"method": "CONNECT"}, "'GET', 'HEAD'"),
        ({"body": {"a": 1}}, "GET has no body; use `query`"),
        ({"method": "POST", "body": 1, "form": {"a": "b"}}, "expected `body` or `form`, not both"),
        ({"parameters": {"x": {}}}, "parameters.x stands nowhere in path, query or body"),
        ({"path": "/{x}", "parameters": {"x": {"type": "array"}}}, "stands in the path"),
        ({"path": "/{x}", "parameters": {"x": {"required": False}}}, "must be required or have a default"),
        (
            {"path": "/{x}", "parameters": {"x": {"default": 7, "type": "string"}}},
            "default is 7; expected text",
        ),
        ({"path": "/{x}", "parameters": {"x": {"pattern": "("}}}, "no regular expression"),
        ({"idempotency_header": "Content-Length"}, "set by the client itself"),
        ({"success": [99]}, "greater than or equal to 200"),
    ],
)
def test_a_mistake_in_an_operation_names_the_fix(operation: dict[str, Any], said: str) -> None:
    """For whoever writes the configuration."""
    with pytest.raises(ValidationError) as caught:
        a_spec(operation)

    assert said in str(caught.value)


def test_a_declaration_shows_no_secret() -> None:
    """Printed or logged."""
    spec = a_spec({"headers": {"X-Key": TOKEN}}, headers={"X-Other": TOKEN}, bearer_token=TOKEN)

    assert TOKEN not in repr(spec)


async def test_an_operation_is_a_tool_with_the_schema_of_its_arguments() -> None:
    """Whoever plans sees names, types and what is required."""
    operation = {
        "path": "/{city}",
        "query": {"days": "{days}", "tag": "{tag}"},
        "description": "The weather",
        "parameters": {
            "days": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3, "description": "How many"},
            "tag": {"choices": ["a", "b"], "required": False},
        },
    }
    (tool,) = await HttpSystem(a_spec(operation)).list_tools()

    assert (tool.name, tool.description) == ("op", "The weather")
    assert tool.input_schema == {
        "type": "object",
        "properties": {
            "city": {},
            "days": {"type": "integer", "description": "How many", "default": 3, "minimum": 1, "maximum": 9},
            "tag": {"enum": ["a", "b"]},
        },
        "additionalProperties": False,
        "required": ["city"],
    }


async def test_the_only_operation_needs_no_name() -> None:
    """A task chooses by tool, by its own id, or not at all; inputs are not taken."""
    system = HttpSystem(a_spec())

    assert await system.choose_tool(TaskNode("t")) == "op"
    assert not system.takes_inputs("op")
    assert (await failure_of(system, a_request("other"))).code == "unknown_tool"


def test_a_fingerprint_tells_what_is_asked_and_no_secret() -> None:
    """Another address, path or header is another system; another token, limit or description is not."""
    system = HttpSystem(a_spec({"path": "/a"}, headers={"X-Key": "1"}))

    same = HttpSystem(
        a_spec({"path": "/a", "timeout_seconds": 1, "description": "d"}, headers={"x-key": "2"})
    )
    assert same.fingerprint("op") == system.fingerprint("op")
    others = [
        a_spec({"path": "/b"}, headers={"X-Key": "1"}),
        a_spec({"path": "/a", "method": "POST"}, headers={"X-Key": "1"}),
        a_spec({"path": "/a"}),
        a_spec({"path": "/a"}, headers={"X-Key": "1"}, base_url="https://other.example.com"),
    ]
    assert system.fingerprint("op") not in {HttpSystem(spec).fingerprint("op") for spec in others}
    assert system.fingerprint("none") == ""


@pytest.mark.parametrize(
    ("address", "free", "private"),
    [
        *((text, True, True) for text in ("93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822")),
        *(
            (text, False, True)
            for text in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1")
        ),
        *((text, False, True) for text in ("::1", "fd12::1", "::ffff:127.0.0.1", "64:ff9b::a00:1")),
        *((text, False, True) for text in ("2002:7f00:1::", "2002:a00:1::1", "::127.0.0.1")),
        *((text, False, False) for text in ("169.254.169.254", "169.254.1.1", "100.100.100.200", "fe80::1")),
        *((text, False, False) for text in ("fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe")),
        *(
            (text, False, False)
            for text in ("0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:0.0.0.0", "240.0.0.1")
        ),
        *((text, False, False) for text in ("255.255.255.255", "2002:a9fe:a9fe::")),
    ],
)
def test_an_address_is_judged_in_every_way_of_writing_it(address: str, free: bool, private: bool) -> None:
    """IPv4 inside IPv6 counts as what it is."""
    assert may_connect(ip_address(address), allow_private=False) == free
    assert may_connect(ip_address(address), allow_private=True) == private


def test_an_address_written_out_may_be_connected_to_and_no_other() -> None:
    """Whoever wrote it knew it."""
    named = ip_address("169.254.169.254")

    assert may_connect(named, allow_private=False, named=named)
    assert not may_connect(ip_address("169.254.169.253"), allow_private=False, named=named)


def test_only_canonical_spellings_are_literal_addresses() -> None:
    """Others are resolved like names, and judged by what they stand for."""
    assert literal_address("127.0.0.1") is not None
    assert [literal_address(text) for text in ("127.1", "0x7f000001", "017.0.0.1", "fe80::1%lo", "x")] == [
        None
    ] * 5
    assert is_loopback_name("A.LocalHost.")
    assert not is_loopback_name("localhost.example.com")
