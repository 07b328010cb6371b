"""How KGoT is started: the configuration of one `kgot` system, and the command line made of it.

May import: orchestration.{models, redaction}, pydantic, stdlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from orchestration.models import PositiveSeconds
from orchestration.redaction import secret_values

DEFAULT_EXECUTOR_URI = "http://localhost:16000/run"
"""Where KGoT looks for its Python executor unless it is told."""

EXECUTOR_VARIABLE = "PYTHON_EXECUTOR_URI"

_IN_A_FILE = "networkX"
"""The database that lives in the process itself; every other one is a server that all processes share."""

_MODEL = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
_MODULE = r"[A-Za-z][A-Za-z0-9_]{0,63}"
_AtLeastOne = Annotated[int, Field(ge=1, le=1000)]


class KgotOptions(BaseModel):
    """What KGoT is told on its command line; what is absent is left to it."""

    model_config = _MODEL

    db_choice: Annotated[str, Field(pattern=f"^{_MODULE}$")] = "networkX"
    """`networkX` needs nothing else; `neo4j` needs a Neo4j server (`NEO4J_…` in `env`)."""
    controller_choice: Annotated[str, Field(pattern=f"^{_MODULE}$")] = "directRetrieve"
    """How the graph is asked: `directRetrieve` or `queryRetrieve`."""
    iterations: _AtLeastOne = 7
    """Rounds until an answer is forced."""
    num_next_steps_decision: _AtLeastOne | None = None
    """Votes on each next step; KGoT takes 5."""
    max_final_solution_parsing: _AtLeastOne | None = None
    """Votes on the solution; KGoT takes 3."""
    max_retrieve_query_retry: _AtLeastOne | None = None
    max_cypher_fixing_retry: _AtLeastOne | None = None
    max_tool_retries: _AtLeastOne | None = None
    max_llm_retries: _AtLeastOne | None = None
    tool_choice: Annotated[str, Field(pattern=f"^{_MODULE}$")] | None = None
    llm_plan: Annotated[str, Field(min_length=1, max_length=200, pattern="^[^-]")] | None = None
    """Name in `config_llms.json` of the model that plans; KGoT takes `gpt-4o-mini`."""
    llm_exec: Annotated[str, Field(min_length=1, max_length=200, pattern="^[^-]")] | None = None
    """Name in `config_llms.json` of the model its tools use; some always use `gpt-4o-mini`."""

    def argv(self) -> list[str]:
        """Return the options as arguments; both choices are always among them: the defaults need a Neo4j server."""
        given = {
            "--db_choice": self.db_choice,
            "--controller_choice": self.controller_choice,
            "-i": self.iterations,
            "--num_next_steps_decision": self.num_next_steps_decision,
            "--max_final_solution_parsing": self.max_final_solution_parsing,
            "--max_retrieve_query_retry": self.max_retrieve_query_retry,
            "--max_cypher_fixing_retry": self.max_cypher_fixing_retry,
            "--max_tool_retries": self.max_tool_retries,
            "--max_llm_retries": self.max_llm_retries,
            "--tool_choice": self.tool_choice,
            "--llm-plan": self.llm_plan,
            "--llm-exec": self.llm_exec,
        }
        return [text for option, value in given.items() if value is not None for text in (option, str(value))]


class KgotSpec(BaseModel):
    """KGoT as a program of this machine."""

    model_config = _MODEL

    command: Annotated[list[str], Field(min_length=1)] = Field(default=["kgot"])
    """The program, with arguments that come before its options: `[kgot]`, or `[python, -m, kgot]`."""
    config_dir: Path
    """Folder with `config_llms.json` and `config_tools.json`; copied for each run, readable by nobody else."""
    description: str = (
        "KGoT: answers a hard question by building a knowledge graph, with search, Python and files."
    )
    """What it is good at, for whoever plans."""
    options: KgotOptions = KgotOptions()
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    """Environment variables: `OPENAI_BASE_URL`, `NEO4J_URI`, …. Python that a model writes can read them all."""
    python_executor_uri: str | None = None
    """Address of its Python executor; `PYTHON_EXECUTOR_URI` of `env`, else http://localhost:16000/run, when absent."""
    timeout_seconds: PositiveSeconds = 1800.0
    """Longest run; it has no limit of its own. The task's own limit holds too."""
    max_processes: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Runs at once, 0.3 GB each; more wait. 4 when absent, and 1 with a database that all of them share."""
    files_root: Path | None = None
    """Folder of the files a task may name in its argument `files`; without it none can be."""
    max_files: Annotated[int, Field(ge=1, le=1000)] = 20
    """Most files of one task."""
    work_folder: Path | None = None
    """Where the folders of the runs are made; a private one among the system's temporary files when absent."""
    keep_workdir: bool = False
    """Whether the folder of a run stays afterwards, without its configuration; its path is part of the output."""
    max_output_bytes: Annotated[int, Field(ge=1)] = 32 * 1024 * 1024
    """A trace over this ends the run."""

    @field_validator("command")
    @classmethod
    def _is_a_command(cls, command: list[str]) -> list[str]:
        if not command[0] or any("\0" in item for item in command):
            raise ValueError("expected the program and its arguments, such as [kgot], without NUL characters")
        return command

    @field_validator("env")
    @classmethod
    def _is_an_environment(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(
                    f"{name!r} can't be the name of an environment variable, or its value has a NUL"
                )
        return env

    @field_validator("python_executor_uri")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in ("http", "https"):
            raise ValueError("expected http://HOST:PORT/run")
        return value

    @model_validator(mode="after")
    def _does_not_mix_graphs(self) -> KgotSpec:
        if self.options.db_choice != _IN_A_FILE and (self.max_processes or 1) > 1:
            raise ValueError(
                f"max_processes is {self.max_processes}; expected 1 with db_choice {self.options.db_choice!r}: "
                "runs at once would mix their graphs in the one database"
            )
        return self

    @property
    def processes(self) -> int:
        """Return how many may run at once."""
        return self.max_processes or (4 if self.options.db_choice == _IN_A_FILE else 1)

    @property
    def program(self) -> str:
        """Return the program; a path is made a whole one, for each run has a folder of its own."""
        program = self.command[0]
        return str(Path(program).expanduser().absolute()) if "/" in program else program

    @property
    def secrets(self) -> list[str]:
        """Return the values in `env` that are secret, by the names of their variables."""
        return [*secret_values(self.env)]

    @property
    def executor_uri(self) -> str:
        """Return where the Python executor is."""
        return self.python_executor_uri or self.env.get(EXECUTOR_VARIABLE) or DEFAULT_EXECUTOR_URI

    def argv(self, question: str, files: Sequence[Path]) -> list[str]:
        """Return the whole command line; the options come before `single`, the question and the files after it."""
        # A question that begins with a dash would be taken for an option; one that begins with a space isn't.
        safe = f" {question}" if question.startswith("-") else question
        named = ["--files", *map(str, files)] if files else []
        return [self.program, *self.command[1:], *self.options.argv(), "single", "-p", safe, *named]

    def declaration(self) -> dict[str, Any]:
        """Return what decides what a run does, without what may be secret."""
        return {
            "command": self.command,
            "options": self.options.model_dump(mode="json", exclude_none=True),
            "config_dir": str(self.config_dir),
            "executor": self.executor_uri,
            "files_root": None if self.files_root is None else str(self.files_root),
        }
