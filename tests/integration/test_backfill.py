"""Backfill jobs on a local Ray: parity with the service, dead letters, kills and resumption."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.workspace import Workspace
from models import release
from models.tagging import TagItem
from serving import pipeline
from serving.backfill import BackfillReport, recommend_all, tag_products
from serving.batch import RECOMMENDATIONS, TAGS, recommendation_rows, tag_rows
from serving.clock import RequestClock
from serving.config import BackfillConfig, ServeConfig
from serving.errors import BackfillFailed
from serving.gateway.budget import read_spent
from serving.load import load_services
from serving.messages import RecommendQuery, TagQuery
from serving.services import Services
from tests.servers import ChatServer

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ServeConfig(llm=None, backfill=BackfillConfig(partition_rows=10, workers=1))
PRODUCTS = 200
DEAD = {3: "item_id is missing", 17: "title is missing", 58: "item.text has 5000 characters", 71: "has 5 fields"}
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""What Ray leaves for another minute when the process that started it is killed; they do no work."""
_JOB = """
import sys
from pathlib import Path
from features.workspace import Workspace
from serving.backfill import recommend_all, tag_products
from serving.config import ServeConfig
config = ServeConfig.model_validate_json(sys.argv[2])
workspace, output = Workspace(Path(sys.argv[1])), Path(sys.argv[3])
if sys.argv[4] == "users":
    recommend_all(workspace, config, output, 5)
else:
    tag_products(workspace, config, Path(sys.argv[4]), output, with_llm=False)
"""


@pytest.fixture(scope="module", autouse=True)
def _as_important_as_others() -> Iterator[None]:
    """Ray's workers give way to every other process (nice 15); on a busy machine the tests would wait for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture(scope="module")
def workspace(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("backfill") / "workspace"
    shutil.copytree(trained_workspace.root, root)
    return Workspace(root)


@pytest.fixture(scope="module")
def services(workspace: Workspace) -> Services:
    """What the service answers with."""
    return load_services(workspace, CONFIG)


@pytest.fixture(scope="module")
def source(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real products as CSV, four of them spoilt."""
    frame = pl.read_parquet(workspace.items).sample(PRODUCTS, seed=5).fill_null("")
    lines = [[str(value) for value in row] for row in frame.iter_rows()]
    at = {name: place for place, name in enumerate(frame.columns)}
    lines[3][at["item_id"]] = ""
    lines[17][at["title"]] = "  "
    lines[58][at["text"]] = "x" * 5_000
    lines[71] = lines[71][:5]
    path = tmp_path_factory.mktemp("products") / "products.csv"
    quoted = [",".join('"' + value.replace('"', '""') + '"' for value in line) for line in [frame.columns, *lines]]
    path.write_text("\n".join(quoted) + "\n")
    return path


@pytest.fixture(scope="module")
def tagged(workspace: Workspace, source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BackfillReport]:
    """The products' tags from a job nobody disturbed, and its report."""
    output = tmp_path_factory.mktemp("tagged") / "out"
    steps: list[tuple[str, float]] = []
    report = tag_products(workspace, CONFIG, source, output, with_llm=False, progress=lambda *step: steps.append(step))
    fractions = [fraction for _, fraction in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert sum(stage == "tagging products" for stage, _ in steps) >= report.partitions
    return output, report


def test_every_row_is_done_or_dead_and_each_bad_row_says_why(tagged: tuple[Path, BackfillReport]) -> None:
    output, report = tagged
    results, dead = _results(output), pl.read_parquet(output / "dead" / "*.parquet").sort("row")
    assert (report.rows, report.done, report.dead) == (PRODUCTS, PRODUCTS - len(DEAD), len(DEAD))
    assert (report.partitions, report.partitions_reused, report.degraded) == (20, 0, 0)
    assert dict(results.schema) == dict(TAGS)
    assert set(results["row"]) | set(dead["row"]) == set(range(PRODUCTS))
    assert dead["row"].to_list() == list(DEAD)
    for reason, expected in zip(dead["reason"], DEAD.values()):
        assert expected in reason
    assert dead["item_id"].to_list()[0] is None


def test_every_product_is_there_and_marked_by_whether_the_service_abstained(
    tagged: tuple[Path, BackfillReport],
) -> None:
    results = _results(tagged[0])
    worth = results.group_by("row").agg(
        pl.col("abstained").first(), found=pl.col("verdict").is_in(["accept", "review"]).any()
    )
    assert len(worth) == PRODUCTS - len(DEAD)
    assert (worth["abstained"] == ~worth["found"]).all()


def test_tags_equal_the_services_to_the_bit(
    tagged: tuple[Path, BackfillReport], services: Services, source: Path
) -> None:
    rows = [(number, row) for number, row in enumerate(_sound(source)) if number not in DEAD and number % 4 == 0]

    async def ask() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for number, row in rows:
            attributes = {name: row[name] for name in row if name not in ("item_id", "title", "text") and row[name]}
            query = TagQuery("", 60_000, row["item_id"], TagItem(row["title"], row["text"] or "", attributes), 5)
            answer = await pipeline.tag(services, query, RequestClock(60_000))
            found.extend(tag_rows(number, row["item_id"], answer, False))
        return found

    direct = pl.DataFrame(asyncio.run(ask()), schema=dict(TAGS))
    ours = _results(tagged[0]).filter(pl.col("row").is_in([number for number, _ in rows]))
    assert_frame_equal(ours, direct, check_exact=True)


def test_a_killed_job_resumes_without_redoing_finished_partitions(
    tagged: tuple[Path, BackfillReport], workspace: Workspace, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with _job(workspace, output, str(source)) as job:
        _wait(lambda: len(list(output.glob("part-*"))) >= 2, job)
        family = _descendants(job.pid)
        job.kill()
        job.wait()
    _wait(lambda: not any(_alive(pid) and not _title(pid).startswith(_AGENTS) for pid in family))
    for pid in family:
        if _title(pid).startswith(_AGENTS):
            os.kill(pid, signal.SIGKILL)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output.glob("part-*")}
    assert 2 <= len(before) < 20

    report = tag_products(workspace, CONFIG, source, output, with_llm=False)

    after = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output.glob("part-*")}
    assert {name: after[name] for name in before} == before
    assert report.partitions_reused == len(before)
    assert (report.done, report.dead) == (tagged[1].done, tagged[1].dead)
    assert_frame_equal(_results(output), _results(tagged[0]), check_exact=True)
    assert not _ray_processes()


def test_recommendations_survive_a_killed_worker_and_equal_the_services(
    workspace: Workspace, services: Services, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with _job(workspace, output, "users") as job:
        _wait(lambda: any(output.glob("part-*")), job)
        (worker,) = [pid for pid in _descendants(job.pid) if _title(pid).startswith("ray::MapWorker")]
        os.kill(worker, signal.SIGKILL)
        assert job.wait(200) == 0, job.stderr and job.stderr.read()
    report = recommend_all(workspace, CONFIG, output, 5)  # finds all done
    assert report.partitions_reused == report.partitions == 6
    assert (report.rows, report.done, report.dead) == (60, 60, 0)

    users = pl.read_parquet(output / "users.parquet")["user_id"].to_list()

    async def ask() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for number, user in enumerate(users):
            query = RecommendQuery("", 60_000, user, "", 5)
            answer = await pipeline.recommend(services, query, RequestClock(60_000))
            found.extend(recommendation_rows(number, user, answer))
        return found

    direct = pl.DataFrame(asyncio.run(ask()), schema=dict(RECOMMENDATIONS))
    assert_frame_equal(_results(output), direct, check_exact=True)
    assert sorted(direct["user_id"].unique()) == sorted(users)


def test_a_finished_job_is_reused_without_ray(
    tagged: tuple[Path, BackfillReport], workspace: Workspace, source: Path
) -> None:
    report = tag_products(workspace, CONFIG, source, tagged[0], with_llm=False)
    assert (report.partitions_reused, report.done, report.dead) == (20, tagged[1].done, tagged[1].dead)
    assert report.seconds < 5


def test_another_input_release_or_parameter_is_refused_with_both_values(
    tagged: tuple[Path, BackfillReport], workspace: Workspace, source: Path, tmp_path: Path
) -> None:
    output, report = tagged
    other = tmp_path / "other.csv"
    other.write_bytes(source.read_bytes().replace(b"brand", b"Brand", 1))
    with pytest.raises(BackfillFailed, match=r"input.sha256 '[0-9a-f]{64}', this one has '[0-9a-f]{64}'; choose"):
        tag_products(workspace, CONFIG, other, output, with_llm=False)
    larger = CONFIG.model_copy(update={"backfill": BackfillConfig(partition_rows=50)})
    with pytest.raises(BackfillFailed, match="partition_rows 10, this one has 50"):
        tag_products(workspace, larger, source, output, with_llm=False)
    with pytest.raises(BackfillFailed, match="kind 'tags', this one has 'recommendations'"):
        recommend_all(workspace, CONFIG, output, 5)
    elsewhere = Workspace(tmp_path / "workspace")
    shutil.copytree(workspace.root, elsewhere.root)
    _, folder = release.read(elsewhere.releases)
    renamed = folder.with_name("r-0123456789ab")
    folder.rename(renamed)
    (renamed / "release.json").write_text((renamed / "release.json").read_text().replace(folder.name, renamed.name))
    release.promote(elsewhere.releases, renamed.name)
    with pytest.raises(BackfillFailed, match=f"release '{report.release}', this one has 'r-0123456789ab'"):
        tag_products(elsewhere, CONFIG, source, output, with_llm=False)


def test_more_items_than_the_service_gives_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(BackfillFailed, match="k is 500; at most 100"):
        recommend_all(workspace, CONFIG, tmp_path / "out", 500)


def test_a_cluster_that_does_not_answer_is_named(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(BackfillFailed, match=r"the Ray cluster at 127\.0\.0\.1:1 cannot be used"):
        recommend_all(workspace, CONFIG, tmp_path / "out", 5)


# --- helpers ---------------------------------------------------------------------------------------------------------


def _results(output: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted(output.glob("part-*.parquet"))]).sort("row", "rank")


def _sound(source: Path) -> Iterator[dict[str, str]]:
    import csv

    with source.open(newline="") as file:
        yield from csv.DictReader(file)


class _job:  # noqa: N801 - a context manager, named like one
    """A backfill in a process of its own, ended with the context."""

    def __init__(self, workspace: Workspace, output: Path, what: str) -> None:
        self._command = [sys.executable, "-c", _JOB, str(workspace.root), CONFIG.model_dump_json(), str(output), what]

    def __enter__(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        return self._process

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def _wait(condition: Callable[[], bool], job: subprocess.Popen[str] | None = None, most_s: float = 200.0) -> None:
    deadline = time.monotonic() + most_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        assert job is None or job.poll() is None or condition(), "the job ended too early"
        time.sleep(0.005)


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(folder.name))
    found = [*parents.get(pid, [])]
    for child in found:
        found.extend(parents.get(child, []))
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _ray_processes() -> list[str]:
    """Processes of a Ray that this one started and did not end."""
    titles = [_title(pid) for pid in _descendants(os.getpid()) if _alive(pid)]
    return [title for title in titles if "ray::" in title or "raylet" in title or "gcs_server" in title]


def test_what_an_llm_costs_a_job_is_on_disk_when_it_ends(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "few.csv"
    source.write_text("item_id,title,text\n" + "\n".join(f"n{n},Sharp cheddar cheese number {n}," for n in range(5)))
    with ChatServer() as vendor:
        target = {"engine": "openai", "model": "m", "base_url": vendor.base_url, "place": "in_house", "stream": False}
        config = ServeConfig.model_validate(
            {
                "llm": None,
                "gateway": {"targets": {"house": {**target, "max_concurrency": 2}}},
                "backfill": {"partition_rows": 2, "workers": 1},
            }
        )
        report = tag_products(workspace, config, source, tmp_path / "spring", with_llm=True)
        asked = len(vendor.seen)
    assert (report.done, report.dead, report.partitions) == (5, 0, 3)
    assert asked >= 5
    spent = read_spent(workspace.llm_spend, days=2).filter(pl.col("job") == "spring")
    assert (spent["calls"].sum(), set(spent["task"]), set(spent["target"])) == (asked, {"tag"}, {"house"})
    assert spent["prompt_tokens"].sum() > 0
    assert spent["assumed_tokens"].sum() == 0
