"""The settings of the language model: what is accepted, what is refused, and that a key is shown to nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import load_settings
from orchestration.errors import ConfigurationError
from orchestration.planning.model_options import ModelOptions
from server.composition import make_model

KEY = "sk-live-0123456789"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "my.yaml"


def mistakes(config: Path, text: str, **environ: str) -> list[str]:
    """Return every mistake of a file, without its folder."""
    config.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as refused:
        load_settings(config, environ)
    return [str(problem).replace(f"{config.parent}/", "") for problem in refused.value.problems]


def test_no_model_is_configured_unless_somebody_says_so() -> None:
    """Planning needs none."""
    assert load_settings().model is None


def test_every_key_of_a_model_is_read(config: Path) -> None:
    """With its key from the environment."""
    config.write_text(
        """
model:
  name: anthropic:claude-sonnet-5-5
  api_key: ${KEY}
  temperature: 0.2
  timeout_seconds: 60
  request_timeout_seconds: 30
  max_retries: 1
  max_input_tokens: 5000
  max_output_tokens: 1000
  max_cost: 0.5
  max_repairs: 0
  max_thoughts: 3
  start_early: true
""",
        encoding="utf-8",
    )

    model = load_settings(config, {"KEY": KEY}).model

    assert model is not None
    assert model.api_key is not None
    assert model.api_key.get_secret_value() == KEY
    told = model.model_dump(exclude={"api_key"}, exclude_defaults=True)
    assert told == {
        "name": "anthropic:claude-sonnet-5-5",
        "temperature": 0.2,
        "timeout_seconds": 60.0,
        "request_timeout_seconds": 30.0,
        "max_retries": 1,
        "max_input_tokens": 5000,
        "max_output_tokens": 1000,
        "max_cost": 0.5,
        "max_repairs": 0,
        "max_thoughts": 3,
        "start_early": True,
    }


def test_a_name_alone_will_do(config: Path) -> None:
    """Everything else has a default."""
    config.write_text("model: openai:gpt-5\n", encoding="utf-8")

    assert load_settings(config).model == ModelOptions(name="openai:gpt-5")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("5", 'model: is 5; expected {name: "provider:model", …}.'),
        ("{base_url: 'https://host/v1'}", "model.name: is missing. Fix: add 'name'."),
        (
            "{name: x, tempratur: 1}",
            "model.tempratur: unknown key 'tempratur'. Fix: write 'temperature'.",
        ),
        ("{name: x, temperature: 3}", "model.temperature: is 3; expected at most 2."),
        ("{name: x, max_repairs: true}", "model.max_repairs: is True; expected a number."),
        ("{name: x, max_cost: 0}", "model.max_cost: is 0; expected a number over 0."),
        (
            "{name: x, base_url: 'ftp://host'}",
            "model.base_url: is 'ftp://host'; expected an address such as https://host/v1.",
        ),
        ("{name: x, start_early: perhaps}", "model.start_early: is 'perhaps'; expected true or false."),
    ],
)
def test_a_mistake_is_told_with_its_line(config: Path, text: str, mistake: str) -> None:
    """The value, what was expected, the nearest right key."""
    assert mistakes(config, f"model: {text}") == [f"my.yaml:1: {mistake}"]


@pytest.mark.parametrize(
    "text",
    [
        "model: {name: x, api_key: 123456789012}",
        "model: {name: x, api_key: ['sk-live-0123456789']}",
        "model: {name: x, api_ky: sk-live-0123456789}",
        "model: {name: x, base_url: 'https://me:${KEY}@host/v1'}",
        "model: {name: x, max_cost: '${KEY}'}",
        "model: {name: x, api_key: '${KEY}', max_cost: -1}",
    ],
)
def test_a_key_is_in_no_mistake(config: Path, text: str) -> None:
    """Neither one that was misplaced nor one without quotes."""
    told = " ".join(mistakes(config, text, KEY=KEY))

    assert KEY not in told
    assert "123456789012" not in told


def test_a_key_is_in_no_settings_that_are_shown(config: Path) -> None:
    """Whoever prints or logs them prints stars."""
    config.write_text("model: {name: x, api_key: '${KEY}'}", encoding="utf-8")
    settings = load_settings(config, {"KEY": KEY})

    assert KEY not in repr(settings)
    assert KEY not in settings.model_dump_json()


def test_a_model_is_made_without_importing_what_it_needs(config: Path) -> None:
    """Every command makes an orchestrator, and most never plan."""
    config.write_text("model: {name: 'anthropic:claude-sonnet-5-5', api_key: k}", encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from config.settings import load_settings;"
        "from server.composition import make_orchestrator;"
        f"make_orchestrator(load_settings(Path({str(config)!r})));"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'pydantic_ai', 'openai', 'anthropic'}))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ran.stdout, ran.returncode) == ("[]\n", 0), ran.stderr


def test_without_the_extra_a_configured_model_is_one_clear_error(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to install, before anything is planned."""
    config.write_text("model: openai:gpt-5\n", encoding="utf-8")
    settings = load_settings(config)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(ConfigurationError) as refused:
        make_model(settings)

    assert [str(problem) for problem in refused.value.problems] == [
        (
            "model: needs the package pydantic-ai-slim, which is not installed. "
            "Fix: pip install 'advanced-task-orchestration[model]', or remove `model`."
        )
    ]
