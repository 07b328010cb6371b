"""The few right tools out of many, by words; whatever is asked, and however the tools are named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.systems.tool_index import ToolHit, ToolIndex
from orchestration.systems.tool_text import Stems, asked_words, clauses, parameter_text, words


def tool(server: str, name: str, description: str = "", **properties: str) -> dict[str, Any]:
    return {
        "server": server,
        "name": name,
        "description": description,
        "input_schema": {
            "type": "object",
            "properties": {
                key: {"type": "string", "description": about} for key, about in properties.items()
            },
            "required": list(properties)[:1],
        },
    }


TOOLS = [
    tool(
        "files", "read_text_file", "Read a file as text.", path="Where it is", head="Lines at its beginning"
    ),
    tool("files", "writeFile", "Write a text into a file.", path="Where it is", content="What to write"),
    tool("files", "listDirectory", "List what is in a folder.", path="The folder"),
    tool("weather", "getForecast", "Tell tomorrow's weather of a city.", city="Name of the city"),
    tool("mail", "send", "Send a message to somebody.", to="An address", body="The message"),
    tool("db", "runSQLQuery2", "Query yesterday's orders and reports.", sql="The statement"),
    tool("喫茶", "注文する", "コーヒーを注文します。", 品="飲み物の名前"),
    tool("图书馆", "查找图书", "按书名或作者查找图书馆里的书。", 书名="书的名字"),
]


@pytest.fixture(scope="module")
def index() -> ToolIndex:
    return ToolIndex().build(TOOLS)


@pytest.mark.parametrize(
    ("text", "server", "name"),
    [
        ("Show me the text in notes.txt, please: read the file", "files", "read_text_file"),
        ("writing files", "files", "writeFile"),  # stems, and a name in camel case
        ("directories listed", "files", "listDirectory"),
        ("what will the weather be in Paris tomorrow?", "weather", "getForecast"),
        ("run an SQL query", "db", "runSQLQuery2"),  # an acronym inside a name
        ("run_sql_query", "db", "runSQLQuery2"),
        ("statement", "db", "runSQLQuery2"),  # said of a parameter only
        ("コーヒーが欲しい", "喫茶", "注文する"),
        ("我想查找一本图书", "图书馆", "查找图书"),
        ("书", "图书馆", "查找图书"),  # a single character
        ("forcast", "weather", "getForecast"),  # no word of it is known
    ],
)
def test_the_tool_that_is_meant_comes_first(index: ToolIndex, text: str, server: str, name: str) -> None:
    """In other forms of its words, other scripts, and misspelled."""
    hit = index.search(text)[0]

    assert (hit.server, hit.name) == (server, name)


def test_a_hit_says_what_is_needed_to_call_it(index: ToolIndex) -> None:
    """Description, arguments and how well it fits."""
    (hit,) = index.search("send a message", limit=1)

    assert (hit.description, hit.required) == ("Send a message to somebody.", ("to",))
    assert hit.input_schema == TOOLS[4]["input_schema"]
    assert 0.5 < hit.score <= 1
    assert hit.coverage == 1


def test_coverage_tells_how_much_of_a_question_a_tool_speaks_of(index: ToolIndex) -> None:
    """The best of bad candidates is no good answer, and this shows it."""
    bad = index.search("send the parrot by zeppelin to Antarctica")[0]
    alike = index.search("forcast")[0]

    assert bad.coverage < 0.4
    assert alike.coverage == 0


def test_a_sentence_that_asks_for_two_things_finds_both(index: ToolIndex) -> None:
    """Whatever the first clause says at length, the second has its tool near the top."""
    text = "Read the text file with all its lines at the beginning of the file as text, then send it to somebody."

    assert [hit.name for hit in index.search(text, limit=2)] == ["read_text_file", "send"]


@pytest.mark.parametrize("text", ["", "   ", "?!", '"', "\x00", "\ud800", "_"])
def test_what_has_no_words_finds_nothing(index: ToolIndex, text: str) -> None:
    """And fails in nothing."""
    assert index.search(text) == []


@pytest.mark.parametrize(
    "text",
    [
        'read" OR name:file',
        "NEAR(read file) AND NOT (",
        "read* ^file -text +x {name}: col",
        "file'; DROP TABLE tools; --",
        "AND",
        "the",
        "x" * 1_000_000,
        "file " * 100_000,
    ],
)
def test_no_question_is_a_syntax_error(index: ToolIndex, text: str) -> None:
    """What looks like the search language is words."""
    index.search(text)

    assert len(index) == len(TOOLS)


@given(st.text(max_size=60))
def test_any_text_can_be_asked_and_indexed(text: str) -> None:
    """Of any characters, in a question and in every field of a tool."""
    index = ToolIndex().build([tool(text, text, text, **{text: text})])

    for hit in index.search(text):
        assert (hit.server, hit.name) == (text, text)
    index.close()


def test_equal_tools_come_by_server_and_name() -> None:
    """The same question always gets the same answer, in whichever order the tools came."""
    tools = [tool(server, name, "Do it.") for server in "cab" for name in ("y_do", "x_do")]

    found = [[(hit.server, hit.name) for hit in ToolIndex().build(order).search("do it")] for order in
             (tools, tools[::-1])]  # fmt: skip

    assert found[0] == found[1]
    assert [server for server, _ in found[0]] == ["a", "a", "b", "b", "c"]


def test_a_limit_is_kept(index: ToolIndex) -> None:
    """None, one, and more than there are."""
    assert index.search("file", limit=0) == []
    assert len(index.search("file", limit=1)) == 1
    assert len(index.search("file text", limit=1000)) < len(TOOLS)


# --- Changes


def test_a_servers_tools_are_replaced_and_forgotten() -> None:
    """As servers come, change and go, the others stay."""
    index = ToolIndex().build(TOOLS)

    assert index.update("mail", [tool("mail", "post_letter", "Post a letter.")]) is True
    assert [hit.name for hit in index.search("post a letter", limit=1)] == ["post_letter"]
    assert not any(hit.name == "send" for hit in index.search("send a message to somebody"))
    assert index.remove("mail") is True
    assert index.remove("mail") is False
    assert not any(hit.server == "mail" for hit in index.search("post a letter"))
    assert "files" in index.servers()


def test_unchanged_tools_are_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is asked again and says the same costs no write, alone or with all."""
    index = ToolIndex().build(TOOLS)
    written: list[str] = []
    index._store._db.set_trace_callback(written.append)

    assert index.update("mail", [each for each in TOOLS if each["server"] == "mail"]) is False
    index.build(TOOLS)

    assert [line for line in written if not line.startswith("SELECT")] == []


def test_building_again_forgets_what_is_not_given() -> None:
    """`build` says what there is, all of it."""
    index = ToolIndex().build(TOOLS).build(TOOLS[:1])

    assert len(index) == 1
    assert index.servers() == {"files"}


def test_of_two_tools_with_one_name_the_first_counts() -> None:
    """A server that lists a tool twice has it once."""
    index = ToolIndex().build([tool("s", "t", "Knit."), tool("s", "t", "Sew.")])

    assert [hit.description for hit in index.search("knit")] == ["Knit."]
    assert len(index) == 1


def test_odd_tools_do_no_harm() -> None:
    """Schemas and descriptions are whatever a server says."""
    odd: list[dict[str, Any]] = [
        {"server": "s", "name": "none", "description": None, "input_schema": None},
        {"server": "s", "name": "bare"},
        {"server": "s", "name": "list", "input_schema": []},
        {"server": "s", "name": "odd_properties", "input_schema": {"properties": ["x"], "required": "all"}},
        {"server": "s", "name": "odd_property", "input_schema": {"properties": {"x": 7}, "required": [7]}},
        {"server": "s", "name": "long", "description": "word " * 100_000},
    ]

    index = ToolIndex().build(odd)

    assert len(index) == len(odd)
    assert [hit.required for hit in index.search("odd property properties x", limit=9)] == [(), ()]


def test_it_may_be_asked_and_changed_from_many_threads() -> None:
    """One lock: each answer is of one state."""
    index = ToolIndex().build(TOOLS)

    def work(number: int) -> list[ToolHit]:
        index.update(f"s{number % 5}", [tool("", f"counter_{number}", "Count sheep.")])
        return index.search("read a text file")

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(work, range(60)))

    assert {answer[0].name for answer in answers} == {"read_text_file"}
    assert len(index) == len(TOOLS) + 5


# --- Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("getHTTPStatus", ["get", "http", "status"]),
        ("get_http_status2xx", ["get", "http", "status", "2", "xx"]),
        ("listAPIs", ["list", "apis"]),
        ("kebab-case.dotted/path", ["kebab", "case", "dotted", "path"]),
        ("ÜberGröße", ["über", "größe"]),
        ("ＦＵＬＬ width", ["full", "width"]),
        ("x図書館y", ["x", "図", "書", "館", "図書", "書館", "y"]),
    ],
)
def test_identifiers_and_scripts_are_split(text: str, expected: list[str]) -> None:
    """As people read them."""
    assert words(text) == expected


def test_function_words_decide_nothing_unless_there_are_no_others() -> None:
    """ "Could you please" is no tool."""
    assert asked_words("Could you please help me to read it?") == ["read"]
    assert asked_words("what is this") == ["what", "is", "this"]


def test_clauses_are_what_punctuation_and_conjunctions_divide() -> None:
    """Each with the words that say something."""
    assert clauses("Fetch the page, summarize it and then mail the summary. Thanks!") == [
        ["fetch", "page"],
        ["summarize"],
        ["mail", "summary"],
    ]


def test_stems_are_those_of_the_full_text_index() -> None:
    """The same word for both halves of a search; a word is learnt once."""
    stems = Stems()

    assert stems.of(["queries", "query", "querying", "Grüße", "x"]) == [
        "queri",
        "queri",
        "queri",
        "gruß",
        "x",
    ]
    assert parameter_text({"properties": {"a": {"description": "b"}, "c": 1}}) == "a b c"


def test_thousands_of_tools_are_searched() -> None:
    """A word that every tool has chooses none; the rare one does."""
    alike = [tool(f"s{number % 40}", f"tool_{number}", "Get data of the service.") for number in range(1500)]
    index = ToolIndex().build([*alike, tool("moon", "phase", "Get data of the moon.")])

    assert index.search("get data of the moon")[0].server == "moon"
    assert len(index.search("get data")) == 5
