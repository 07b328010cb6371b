"""What a redactor recognises, what it leaves alone, and that it looks through much in little time."""

from __future__ import annotations

import base64
import json
import re
from html import escape
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.models import Json
from orchestration.redaction import BLOT, NOTHING_SECRET, Redactor, header_secrets, tells_of_secret

SECRET = 'p@ss "w&rd"/\\ünd+more'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        re.sub("%..", lambda found: found[0].lower(), quote(SECRET, safe="")),
        quote(SECRET),
        quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        repr(SECRET)[1:-1],
        escape(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_secret_is_recognised_in_the_forms_in_which_programs_repeat_it(form: str) -> None:
    """Percent-encoded, escaped for JSON, Python and HTML, in base64."""
    told = Redactor([SECRET]).text(f"<{form}>")

    assert told.startswith(f"<{BLOT}")
    assert len(told) <= len(f"<{BLOT}==>") + 1


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("after", ["", "x", "xy"])
def test_a_secret_is_recognised_within_base64(before: str, after: str) -> None:
    """Wherever it begins there: three bytes make four characters."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        told = Redactor([SECRET]).text(encode((before + SECRET + after).encode()).decode())

        assert BLOT in told
        assert len(told) < len(BLOT) + 18


def test_the_longest_secret_wins_and_neighbours_are_replaced_alike() -> None:
    """One that begins with another leaves nothing of itself."""
    redactor = Redactor(["hush-hush", "hush-hush-more", "second-secret"])

    assert redactor.text("hush-hush-more") == BLOT
    assert redactor.text("hush-hushhush-hush") == BLOT * 2
    assert redactor.text("a hush-hush-more, second-secret!") == f"a {BLOT}, {BLOT}!"


def test_what_is_secret_in_a_value_counts_on_its_own() -> None:
    """The password of an address, the token behind its scheme, a line of a key; not the address itself."""
    basic = base64.b64encode(b"me:hunter-two").decode()
    key = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA1234\n-----END KEY-----\n"
    redactor = Redactor(
        ["postgres://user:pa%20ss12@db.internal/x", "Bearer tok-12345", f"Basic {basic}", key]
    )

    assert redactor.text("pa ss12 pa%20ss12 tok-12345 hunter-two") == " ".join([BLOT] * 4)
    assert redactor.text("line MIIEpAIBAAKCAQEA1234\r\n") == f"line {BLOT}\r\n"
    assert redactor.text("db.internal user -----BEGIN KEY-----") == "db.internal user -----BEGIN KEY-----"


def test_short_values_are_no_secrets() -> None:
    """They would be found everywhere."""
    assert Redactor(["abc", "12345", ""]).text("abc 12345") == "abc 12345"
    assert not Redactor(["abc"])


def test_json_loses_secrets_in_values_keys_and_numbers() -> None:
    """And keys that become alike stay apart."""
    redactor = Redactor(["first-secret", "other-secret", "918273645"])
    value: Json = {
        "first-secret": [1, "x first-secret", None, True],
        "other-secret": 2,
        BLOT: {"n": 918273645, "f": 0.5},
    }

    assert redactor.json(value) == {
        f"{BLOT} 2": [1, f"x {BLOT}", None, True],
        f"{BLOT} 3": 2,
        BLOT: {"n": BLOT, "f": 0.5},
    }


def test_nothing_changes_where_nothing_is_secret() -> None:
    """The very same objects come back."""
    value: Json = {"a": ["b"]}
    text = "some text"

    assert NOTHING_SECRET.json(value) is value
    assert NOTHING_SECRET.text(text) is text
    assert Redactor(["some-secret"]).text(text) is text
    assert not NOTHING_SECRET.finds(b"anything")


def test_a_redactor_does_not_show_what_it_replaces() -> None:
    """In a traceback or a log it says how many there are."""
    assert repr(Redactor(["some-secret"])) == "Redactor(1 secrets)"


@given(
    st.lists(st.text(min_size=6, max_size=20), min_size=1, max_size=12),
    st.lists(st.text(max_size=30), max_size=6),
    st.data(),
)
def test_no_secret_survives_in_any_text(secrets: list[str], parts: list[str], data: st.DataObject) -> None:
    """Whatever the secrets and the text around them are; replacing again changes nothing."""
    redactor = Redactor(secrets)
    text = "".join(part + data.draw(st.sampled_from(secrets)) for part in parts)

    told = redactor.text(text)

    assert redactor.text(told) == told or BLOT in "".join(secrets)
    for secret in secrets:
        assert secret not in told.replace(BLOT, "\x00") or secret in BLOT


def test_secrets_at_the_edge_of_a_page_are_found() -> None:
    """What is looked through in pages is one text all the same."""
    redactor = Redactor(["a-secret-of-some-length"])
    for place in range(32 * 1024 - 30, 32 * 1024 + 5):
        text = "x" * place + "a-secret-of-some-length" + "y" * 10
        assert redactor.text(text) == "x" * place + BLOT + "y" * 10


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OPENAI_API_KEY", True),
        ("GITHUB_PAT", True),
        ("db_password", True),
        ("Authorization", True),
        ("X-Auth-Token", True),
        ("Cookie", True),
        ("PGPASSWORD", True),
        ("MYSQL_PWD", True),
        ("SENTRY_DSN", True),
        ("PATH", False),
        ("PWD", False),
        ("Accept", False),
        ("COMPASS", False),
        ("PATTERN", False),
        ("GIT_AUTHOR_NAME", False),
        ("X-Authorisation", True),
        ("KEYBOARD_LAYOUT", False),
        ("MAX_TOKENS", False),
        ("TOKENIZERS_PARALLELISM", False),
    ],
)
def test_names_tell_of_secrets(name: str, expected: bool) -> None:
    """Names of variables, headers and parameters alike."""
    assert tells_of_secret(name) is expected


def test_headers_have_their_scheme_apart() -> None:
    """The token alone is secret, too, and harmless headers are not."""
    found = set(header_secrets({"Authorization": "Custom abc-123", "Accept": "text/html"}))

    assert found == {"Custom abc-123", "abc-123"}


@pytest.mark.slow
def test_a_large_output_is_looked_through_in_time() -> None:
    """64 MiB in a few seconds at the most, however many secrets there are."""
    from orchestration.clock import SystemClock

    data = (b'{"id": 12345, "name": "some text", "url": "https://example.com/a"}, ' * 1_000_000)[: 64 << 20]
    clock = SystemClock()
    for count in (1, 100):
        redactor = Redactor(base64.b64encode(bytes([number]) * 24).decode() for number in range(1, count + 1))
        began = clock.monotonic()
        assert not redactor.finds(data)
        assert clock.monotonic() - began < 15
