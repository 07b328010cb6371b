"""What looks after the database: `doctor` with its findings and its mending, and `backup`."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.support import CommandLine, running


def checks(cli: CommandLine, *words: str) -> dict[str, Any]:
    """Return what `doctor` found, the last finding of each name."""
    return {check["name"]: check for check in cli.inside("doctor", "--json", *words).document["checks"]}


def test_a_sound_database_is_told_with_its_schema_and_size(cli: CommandLine) -> None:
    """Nothing to mend, nothing to decide, nobody who drives."""
    cli.inside("run", "diamond.yaml")

    answer = cli.inside("doctor", "--mend")
    found = checks(cli)

    assert answer.code == 0
    assert "ok    mended: there was nothing to mend\n" in answer.out
    assert "state.db is sound, schema version 4, " in found["database"]["detail"]
    assert " MiB and a log of " in found["database"]["detail"]
    assert found["orchestrations"]["detail"] == "0 unfinished, none without a driver"
    assert found["drivers"]["detail"] == "none at present"
    assert "decisions" not in found


def test_who_drives_is_told(cli: CommandLine) -> None:
    """A person wonders whose processes use the database."""
    with running(cli) as process:
        found = checks(cli)

    assert found["drivers"]["detail"].startswith(f"process {process.pid} on ")
    assert found["drivers"]["detail"].endswith(" drives 1 orchestration")
    assert found["orchestrations"]["detail"] == "1 unfinished, none without a driver"


def test_what_lost_its_driver_is_told_with_what_keeps_it_from_going_on(cli: CommandLine) -> None:
    """What could be resumed, and what is configured differently here."""
    with running(cli) as process:
        process.kill()
        process.wait(timeout=10)
    free = checks(cli)
    config = (cli.folder / "config.yaml").read_text()
    cli.write("config.yaml", config.replace('note: "cli_jobs:note"', 'note: "cli_jobs:large"'))
    stuck = checks(cli)

    assert free["orchestrations"]["ok"] is False
    assert (
        free["orchestrations"]["detail"]
        == "1 orchestration left unfinished by a process that is gone: halting-1"
    )
    assert stuck["orchestrations"]["detail"] == (
        "halting-1 lost its driver and can't go on here: System 'jobs' is configured differently here: note."
    )
    assert stuck["orchestrations"]["fix"] == (
        "configure the system as it was, or decide by hand: `advanced-orchestration resume halting-1` or "
        "`advanced-orchestration cancel halting-1`."
    )


def test_what_is_safe_to_mend_is_mended_and_told(cli: CommandLine) -> None:
    """An output nothing names any more is found, removed on request, and then gone."""
    cli.inside("run", "diamond.yaml")
    with closing(sqlite3.connect(cli.folder / "state.db")) as database:
        database.execute(
            "INSERT INTO artifact (sha256, content) VALUES (?, ?)",
            ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", b"abc"),
        )
        database.commit()

    found = cli.inside("doctor")
    mended = cli.inside("doctor", "--mend")
    after = cli.inside("doctor")

    assert (found.code, mended.code, after.code) == (1, 0, 0)
    assert "FAIL  database: artifacts: 1 artifact (0.0 MiB) that nothing names\n" in found.out
    assert "then `advanced-orchestration doctor --mend`." in found.out
    assert "ok    mended: removed 1 artifact (0.0 MiB) that nothing named\n" in mended.out


def test_a_damaged_file_is_left_alone(cli: CommandLine) -> None:
    """Nothing is rebuilt: what to do is told, and the file stays as it is."""
    cli.inside("run", "diamond.yaml")
    path = cli.folder / "state.db"
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 5] = b"\x5a" * 4096 * 2
    path.write_bytes(content)
    before = path.read_bytes()

    answer = cli.inside("doctor", "--mend", "--json")

    failed = [check for check in answer.document["checks"] if not check["ok"]]
    assert answer.code == 1
    assert failed[0]["name"] == "database"
    assert "damaged" in failed[0]["detail"] + failed[0]["fix"]
    assert path.read_bytes()[4096 * 3 : 4096 * 5] == before[4096 * 3 : 4096 * 5]


def test_too_little_room_is_told(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under 100 MiB, or under the database's own size."""
    cli.inside("run", "diamond.yaml")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=50 * 1024 * 1024))

    found = checks(cli)

    assert found["disk space"]["ok"] is False
    assert found["disk space"]["detail"] == "50 MiB free where the database is; at least 100 MiB should be"


def test_a_backup_is_a_database_of_its_own_and_overwrites_nothing(cli: CommandLine) -> None:
    """Made while another process goes on writing."""
    with running(cli):
        made = cli.inside("backup", "copy.db", "--json")
        again = cli.inside("backup", "copy.db")
    listed = cli.inside("list", "--database", "copy.db", "--json").document["orchestrations"]

    assert made.code == 0
    assert made.document["backup"] == "copy.db"
    assert made.document["bytes"] == (cli.folder / "copy.db").stat().st_size
    assert [each["orchestration_id"] for each in listed] == ["halting-1"]
    assert again.code == 2
    assert "the file exists already. Fix: choose a name that is not taken" in again.err


def test_there_is_no_backup_of_nothing(cli: CommandLine) -> None:
    """No database is made, and no file where there is no folder."""
    nothing = cli.inside("backup", "copy.db", "--database", "none.db")
    cli.inside("run", "diamond.yaml")
    nowhere = cli.inside("backup", "nowhere/copy.db")

    assert (nothing.code, nowhere.code) == (2, 2)
    assert "there is no such file, so there is nothing to copy. Fix: check --database." in nothing.err
    assert not (cli.folder / "none.db").exists()
    assert "it can't be written (No such file or directory)." in nowhere.err
