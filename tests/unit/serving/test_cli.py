"""The command line as a person meets it: examples, exit codes, and one line that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from cli import app

ROOT = Path(__file__).resolve().parents[3]


def tandem(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    environment |= {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def commands() -> list[tuple[str, str]]:
    """Every command as (words, help)."""

    def walk(command: Any, words: tuple[str, ...]) -> list[tuple[str, str]]:
        if not hasattr(command, "commands"):
            return [(" ".join(words), command.help or "")]
        return [found for name, inner in command.commands.items() for found in walk(inner, (*words, name))]

    return walk(typer.main.get_command(app), ())


@pytest.mark.parametrize(("words", "text"), commands(), ids=[words for words, _ in commands()])
def test_help_of_every_command_shows_an_example_of_it(words: str, text: str) -> None:
    assert f"Example: tandem {words}" in text


def test_help_is_printed_and_costs_no_error() -> None:
    done = tandem("recommend", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "tandem recommend 900 --avoid dairy" in done.stdout
    assert "tandem recommend 900 --new" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("recomend",),
        ("recommend", "900", "--nonsense"),
        ("recommend", "900", "--k", "many"),
        ("recommend", "900", "--k", "-3"),
        ("recommend", "900", "--k", "0"),
        ("recommend", "900", "--k", "99999999999"),
        ("recommend", "900", "--deadline-ms", "-4"),
        ("recommend", "900", "--deadline-ms", "99999999999"),
        ("tag", "Cheese", "--deadline-ms", "-4"),
        ("llm", "ask", "Name a cheese.", "--max-tokens", "99999999999"),
        ("review", "accept", "99999999999999999999", "--person", "anna"),
        ("serve", "--port", "-1"),
        ("tag",),
        ("tag", "Cheese", "--attribute", "brand"),
        ("score", "Cheese"),
        ("evaluate", "everything"),
        ("bench", "everything"),
        ("ingest", "--items", "items.parquet"),
        ("ingest", "--timestamp-format", "%d.%m.%Y"),
        ("graph", "query", "not a fact"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = tandem(*arguments, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("tandem: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("train",), "tandem ingest"),
        (("serve",), "tandem train"),
        (("evaluate", "ranking"), "tandem ingest"),
        (("evaluate", "tags"), "tandem ingest"),
        (("recommend", "900"), "tandem serve"),
        (("tag", "Cheese"), "tandem serve"),
        (("score", "Cheese", "--tag", "CHEESE"), "tandem serve"),
        (("events", "add", "--input", "absent.csv"), "Check the path"),
        (("serve", "--config", "absent.toml"), "check --config"),
    ],
)
def test_missing_step_exits_1_with_a_one_line_remedy(arguments: tuple[str, ...], remedy: str, tmp_path: Path) -> None:
    done = tandem(*arguments, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert remedy in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("tandem: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr


def test_settings_nobody_knows_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[serve]\ntopolgy = 'split'\n")
    done = tandem("serve", "--config", "bad.toml", folder=tmp_path)
    assert done.returncode == 2
    assert "topolgy" in done.stderr


@pytest.mark.parametrize(
    ("command", "text", "told"),
    [
        ("train", "[train]\nllm = false\n", "llm in [train] is false; write `llm = false` above every section"),
        ("serve", "[online_store]\nllm = false\n", "llm in [online_store] is false; write `llm = false` above every"),
        ("serve", "llmm = false\n", "llmm above every section is no setting; did you mean llm?"),
        ("serve", "port = 9000\n", "port above every section is no setting; there is port in [serve.ingress]"),
        ("train", "online_store = false\n", "is false, and is a section: write [online_store] and its keys below"),
        ("serve", "[serve.ingress]\nprot = 1\n", "prot in [serve.ingress] is no setting; did you mean port?"),
        ("serve", "[gateway.targets.own]\nplaec = 'vendor'\n", "plaec in [gateway.targets.own] is no setting; did you"),
        ("serve", "[[gateway.routes]]\ntasks = ['tag']\n", "targets in [gateway.routes.0] is missing; write it"),
        ("train", "[train]\nsearch = 'deep'\n", "search in [train] is 'deep': "),
        ("train", "[llm]\nthreads = 'all'\n", "threads in [llm] is 'all': "),
    ],
)
def test_settings_that_do_not_fit_name_file_key_and_remedy(tmp_path: Path, command: str, text: str, told: str) -> None:
    (tmp_path / "shop.toml").write_text(text)
    done = tandem(command, "--config", "shop.toml", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("tandem: the settings file shop.toml does not fit: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_ingest_reads_times_by_format_and_prints_what_it_did_not_use(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\na,Apple\n")
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp,stars,[colour]\nu,a,31.01.2024 09:30,4,red\n")
    files = ("ingest", "--items", "items.csv", "--interactions", "events.csv")
    done = tandem(*files, folder=tmp_path)
    assert done.returncode == 1
    assert "or pass --timestamp-format" in done.stderr
    done = tandem(*files, "--timestamp-format", "%d.%m.%Y %H:%M", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "columns that nothing uses, kept as they are (2): stars, [colour]" in done.stderr
    assert "column 'stars' seems to hold ratings and is not used: rename it to 'value'" in done.stderr
