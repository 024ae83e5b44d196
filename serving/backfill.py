"""Backfill: tag a file of products, or recommend for every user, as a Ray Data job over the pipelines of the service.

The input is cut into partitions by row order. Workers (Ray actors that hold the release, `serving.batch`)
answer them row by row as the service would, and write each as one file (`serving.jobfolder`).
A row that cannot be answered becomes a dead letter; what would fail every row (another release, a store that is down)
ends the job, which goes on from its finished partitions when the command is run again.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from features.events import SqliteEventLog
from features.store import FeatureRepository
from features.workspace import Workspace
from models import release
from models.artifacts import content_hash
from serving.batch import Plan, Products, Users, Worker
from serving.codec import Codec
from serving.config import ServeConfig
from serving.errors import BackfillFailed, NotReady
from serving.jobfolder import Job, JobFolder, Outcome, Partition
from serving.load import TAG_GUARDRAIL, label_sets
from serving.products import ProductFile

Progress = Callable[[str, float], None]
_ROOT = Path(__file__).resolve().parent.parent
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray's C++ part warns on standard error of constructor arguments in the object store (ray#53727); ours outlive
    # the job, and what fails comes back as an exception.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "HF_HUB_OFFLINE": "1",
}
"""For a Ray that is started here; what the caller has set stays."""


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """``rows`` of the input: ``done`` (``degraded`` of them by a fallback) and ``dead``. ``partitions_reused`` had been
    finished by an earlier run; ``seconds`` are of this one."""

    rows: int
    done: int
    dead: int
    degraded: int
    partitions: int
    partitions_reused: int
    seconds: float
    output: str
    release: str


def tag_products(
    workspace: Workspace,
    config: ServeConfig,
    source: Path,
    output: Path,
    *,
    with_llm: bool,
    vocabulary: str = "",
    progress: Progress = lambda *_: None,
) -> BackfillReport:
    """Tag every product of ``source`` (CSV or parquet: item_id, title, text, attributes) into ``output`` (`TAGS`).

    Without an LLM trees, index and graph decide, and its absence is not noted row by row. ``vocabulary``: a label set
    of the release, of which no LLM is asked; "" tags with the catalog's own labels. Raises BackfillFailed;
    NotReady where the release has no tag guardrail, ArtifactMismatch where nothing is released.
    """
    started = time.perf_counter()
    current, folder = release.read(workspace.releases)
    if vocabulary:
        _check_set(current.id, folder, vocabulary, with_llm)
    elif not (folder / TAG_GUARDRAIL).exists():
        raise NotReady(
            f"release {current.id} has no tag guardrail: the catalog has no label column or too few labelled items. "
            "Ingest with --label-column and train again"
        )
    if with_llm and not config.llms.targets:
        raise BackfillFailed("the settings say llm = false; remove that, or run the backfill without --llm")
    progress("checking the input", 0.0)
    products = ProductFile.open(source, config.backfill.partition_rows)
    limits = config.limits
    what = {"engine", "model", "adapter", "dtype", "max_model_len", "base_url"}
    models = {name: each.model_dump(mode="json", include=what) for name, each in config.llms.targets.items()}
    job = Job(
        "tags",
        current.id,
        {"sha256": products.sha256, "rows": products.rows},
        {
            "llm": models if with_llm else None,
            "id_length": limits.id_length,
            "text_length": limits.text_length,
            "list_length": limits.list_length,
            **({"vocabulary": vocabulary} if vocabulary else {}),
        },
        products.part_rows,
    )
    place = JobFolder(output)
    with place.locked():
        job = place.claim(job)
        rows = Products(products, Codec(limits, config.default_deadline_ms), with_llm, output.name, vocabulary)
        return _run(Plan(Workspace(workspace.root.absolute()), config, place, job, rows, with_llm), progress, started)


def _check_set(release_id: str, folder: Path, vocabulary: str, with_llm: bool) -> None:
    guarded = label_sets(folder)
    if vocabulary not in guarded:
        names = ", ".join(map(repr, sorted(guarded))) or "none; name its column under train.several"
        raise BackfillFailed(f"release {release_id} has no label set {vocabulary!r}; it has {names}")
    if not guarded[vocabulary]:
        raise NotReady(
            f"release {release_id} has no guardrail for {vocabulary!r}: too few items are labelled. Label some and "
            "train again"
        )
    if with_llm:
        raise BackfillFailed("no LLM is asked about label sets; leave --llm or --vocabulary out")


def recommend_all(
    workspace: Workspace,
    config: ServeConfig,
    output: Path,
    k: int,
    *,
    progress: Progress = lambda *_: None,
) -> BackfillReport:
    """Recommend ``k`` items to every user the workspace knows, into ``output`` (`RECOMMENDATIONS`).

    The users are those known when the job was first started. Raises BackfillFailed, ArtifactMismatch, WorkspaceError.
    """
    started = time.perf_counter()
    if k > config.limits.k:
        raise BackfillFailed(f"k is {k}; at most {config.limits.k} items can be asked for (limits.k)")
    current, _ = release.read(workspace.releases)
    catalog = workspace.config()
    place = JobFolder(output)
    with place.locked():
        progress("listing the users", 0.0)
        users = place.users()
        if users is None:
            users = pl.DataFrame({"user_id": _known_users(workspace, config)}, schema={"user_id": pl.String})
            place.write_users(users)
        ids = users["user_id"].to_list()
        job = Job(
            "recommendations",
            current.id,
            {"sha256": content_hash(ids), "rows": len(ids)},
            {"k": k, "candidates": config.candidates},
            config.backfill.partition_rows,
            int(time.time()) if catalog.clock == "wall" else None,
        )
        job = place.claim(job)
        rows = Users(place, Codec(config.limits, config.default_deadline_ms), k, job.at)
        return _run(Plan(Workspace(workspace.root.absolute()), config, place, job, rows, False), progress, started)


def _known_users(workspace: Workspace, config: ServeConfig) -> list[str]:
    """Everybody with a history: materialized, or of events since."""
    repository = FeatureRepository(workspace.features, (), config.online_store)
    users = set(repository.histories())
    if workspace.events.exists():
        log = SqliteEventLog(workspace.events)
        users.update(log.frame()["user_id"].to_list())
        log.close()
    return sorted(users)


# --- the job ---------------------------------------------------------------------------------------------------------


def _run(plan: Plan, progress: Progress, started: float) -> BackfillReport:
    """Have the unfinished partitions done and count all of them, on disk."""
    partitions = plan.job.partitions
    outcomes: dict[int, Outcome] = {}
    for partition in partitions:
        if (outcome := plan.place.outcome(partition)) is not None:
            outcomes[partition.number] = outcome
    reused = len(outcomes)
    if reused < len(partitions):
        todo = [partition for partition in partitions if partition.number not in outcomes]
        progress("starting Ray", reused / len(partitions))
        with _ray():
            progress("loading the release", reused / len(partitions))
            for number in _work(plan, todo):
                done = plan.place.outcome(partitions[number])
                if done is None:
                    raise BackfillFailed(
                        f"partition {number} in {plan.place.root} does not hold the rows it should; run again"
                    )
                outcomes[number] = done
                progress(plan.rows.stage, len(outcomes) / len(partitions))
    report = BackfillReport(
        rows=plan.job.rows,
        done=sum(outcome.done for outcome in outcomes.values()),
        dead=sum(outcome.dead for outcome in outcomes.values()),
        degraded=sum(outcome.degraded for outcome in outcomes.values()),
        partitions=len(partitions),
        partitions_reused=reused,
        seconds=round(time.perf_counter() - started, 3),
        output=str(plan.place.root),
        release=plan.job.release,
    )
    if report.done + report.dead != report.rows:
        raise BackfillFailed(
            f"{report.rows} rows went in, {report.done} are done and {report.dead} dead in {plan.place.root}; run again"
        )
    progress(plan.rows.stage, 1.0)
    return report


def _work(plan: Plan, todo: Sequence[Partition]) -> Iterator[int]:
    """Numbers of partitions as they are finished. Raises BackfillFailed; what was finished stays."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    config, backfill = plan.config, plan.config.backfill
    cores = float(ray.cluster_resources().get("CPU", 1.0))
    needs = min(cores, backfill.num_cpus + (config.llm_num_cpus if plan.with_llm else 0.0))
    workers = min(len(todo), backfill.workers or (1 if plan.with_llm else max(1, int(cores // needs))))
    again = "run the command again to go on from the finished partitions"
    with _quiet(DataContext.get_current()):
        try:
            answers = ray.data.from_items([asdict(part) for part in todo], override_num_blocks=len(todo)).map_batches(
                Worker,
                fn_constructor_args=(plan,),
                batch_size=1,
                compute=ActorPoolStrategy(size=workers),
                num_cpus=needs,
                num_gpus=config.llm_num_gpus if plan.with_llm else 0.0,
            )
            for answer in answers.iter_rows():
                if answer["error"]:
                    raise BackfillFailed(f"{answer['error']} ({again})")
                yield int(answer["number"])
        except ray.exceptions.RayError as error:
            raise BackfillFailed(f"Ray gave up ({type(error).__name__}); {again}") from error


@contextmanager
def _quiet(context: Any) -> Iterator[None]:
    """Ray Data without its own bars and notices: the caller has the job's progress."""
    logger = logging.getLogger("ray.data")
    before = logger.level, context.enable_progress_bars, context.print_on_execution_start
    logger.setLevel(logging.ERROR)
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        with warnings.catch_warnings():
            # Feast turns such warnings on for everybody, and Ray Data warns of its own options when it copies them.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\.")
            yield
    finally:
        logger.setLevel(before[0])
        context.enable_progress_bars, context.print_on_execution_start = before[1:]


@contextmanager
def _ray() -> Iterator[None]:
    """Ray as it runs, at RAY_ADDRESS, or started here and then ended here. Raises BackfillFailed."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise BackfillFailed("a backfill needs Ray: pip install 'tandem-rec[serve]'") from error
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    local: dict[str, Any] = {
        "include_dashboard": False,
        "object_store_memory": 128 << 20,  # only numbers of partitions travel through it
        "runtime_env": {"env_vars": {"PYTHONPATH": str(_ROOT)}},
    }
    missing = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        try:
            if address and (where := re.fullmatch(r"([\w.-]+):(\d+)", address)):
                # Ray would wait for a minute and then end the process.
                socket.create_connection((where[1], int(where[2])), timeout=5).close()
            ray.init(
                address=address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else local)
            )
        except (OSError, ValueError, RuntimeError) as error:
            what = f"the Ray cluster at {address}" if address else "a local Ray"
            raise BackfillFailed(f"{what} cannot be used ({error}); check RAY_ADDRESS") from error
        yield
    finally:
        ray.shutdown()
        for name in missing:
            os.environ.pop(name, None)
