"""The folder of a batch job: what counts as finished, and who may write to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from serving.errors import BackfillFailed
from serving.jobfolder import Job, JobFolder, Outcome, Partition

JOB = Job("tags", "r-0123456789ab", {"sha256": "ab", "rows": 25}, {"llm": None}, 10)
PART = Partition(1, 10, 13)
RESULTS = pl.DataFrame({"row": [10, 10, 12], "degraded": [[], [], ["llm: slow"]]}, schema_overrides={"row": pl.Int64})
DEAD = pl.DataFrame({"row": [11], "item_id": ["x"], "reason": ["bad"]})


def test_partitions_cover_every_row_once() -> None:
    assert [(part.number, part.start, part.stop) for part in JOB.partitions] == [(0, 0, 10), (1, 10, 20), (2, 20, 25)]
    assert replace(JOB, input={"sha256": "ab", "rows": 0}).partitions == ()


def test_a_partition_is_finished_when_every_row_is_done_or_dead(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    with folder.locked():
        assert folder.outcome(PART) is None
        folder.write(PART, RESULTS, DEAD)
        assert folder.outcome(PART) == Outcome(done=2, degraded=1, dead=1)
        (tmp_path / "dead" / "part-00001.parquet").unlink()
        assert folder.outcome(PART) is None
        folder.write(PART, RESULTS, DEAD)
        part = tmp_path / "part-00001.parquet"
        part.write_bytes(part.read_bytes()[:-20])
        assert folder.outcome(PART) is None


def test_no_stale_dead_letter_outlives_a_partition_done_again(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    with folder.locked():
        folder.write(PART, RESULTS, DEAD)
        whole = pl.concat([RESULTS, pl.DataFrame({"row": [11], "degraded": [[]]}, schema=RESULTS.schema)])
        folder.write(PART, whole, DEAD.clear())
        assert folder.outcome(PART) == Outcome(done=3, degraded=1, dead=0)
    assert not list((tmp_path / "dead").iterdir())


def test_attempts_are_counted_until_the_partition_is_written_or_the_job_starts_anew(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    with folder.locked():
        assert [folder.attempt(PART), folder.attempt(PART)] == [1, 2]
        folder.write(PART, RESULTS, DEAD)
        assert folder.attempt(PART) == 1
    with folder.locked():
        assert folder.attempt(PART) == 1


def test_a_folder_serves_one_job_at_a_time(tmp_path: Path) -> None:
    with JobFolder(tmp_path).locked(), pytest.raises(BackfillFailed, match="another backfill is writing"):
        with JobFolder(tmp_path).locked():
            pass
    with JobFolder(tmp_path).locked():
        pass


def test_a_resumed_job_keeps_its_first_time_and_refuses_another_job(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    with folder.locked():
        assert folder.claim(replace(JOB, at=5)).at == 5
        assert folder.claim(replace(JOB, at=9)).at == 5
        with pytest.raises(BackfillFailed, match="release 'r-0123456789ab', this one has 'r-ffffffffffff'; choose"):
            folder.claim(replace(JOB, release="r-ffffffffffff"))
        with pytest.raises(BackfillFailed, match=r"parameters\.llm"):
            folder.claim(replace(JOB, parameters={"llm": {"engine": "vllm"}}))
        (tmp_path / "job.json").write_text("{")
        with pytest.raises(BackfillFailed, match="damaged"):
            folder.claim(JOB)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    folder = JobFolder(tmp_path)
    with folder.locked(), pytest.raises(BackfillFailed, match=r"'precious\.txt' and no job\.json"):
        folder.claim(JOB)
