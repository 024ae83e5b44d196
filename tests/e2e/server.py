"""The real server as a process of its own: start it, find its processes, end it, and see that nothing is left."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from features.workspace import Workspace
from protos.tandem.v1 import recommender_pb2
from serving.client import Client, find_key

ROOT = Path(__file__).resolve().parents[2]
START_S = 180.0
STOP_S = 60.0


def wait_until(holds: Callable[[], bool], within_s: float, what: str, every_s: float = 0.2) -> float:
    """Seconds waited; fails with ``what`` where it does not come true in time."""
    started = time.monotonic()
    while not holds():
        waited = time.monotonic() - started
        assert waited < within_s, f"{what}: not within {within_s:.0f} s"
        time.sleep(every_s)
    return time.monotonic() - started


def command_of(pid: int) -> str:
    """The process's command line, or the title it gave itself; empty where it is gone or only waits to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return "" if state == "Z" else Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def processes_of(session: int) -> dict[int, str]:
    """Living processes of a session by pid: whatever a server started is in its session, however it detached."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getsid(int(entry.name)) != session:
                continue
        except OSError:
            continue
        if command := command_of(int(entry.name)):
            found[int(entry.name)] = command
    return found


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def free_ports() -> tuple[int, int, int]:
    """gRPC port, HTTP port and the first internal one, below those the system hands out."""
    for _ in range(100):
        base = random.randrange(12_000, 31_000, 500)
        wanted = [*range(base, base + 6), *range(base + 100, base + 110), *range(base + 300, base + 310)]
        if all(_free(port) for port in wanted):
            return base + 4, base + 5, base
    raise AssertionError("no free range of ports")


@dataclass(frozen=True)
class Early:
    """What a server did at its first breath: its first replies, and whether the LLM was up by then."""

    reply: recommender_pb2.RecommendReply
    words: recommender_pb2.RecommendReply
    llm_was_serving: bool


@dataclass(frozen=True)
class Server:
    """A running service."""

    process: subprocess.Popen[bytes]
    workspace: Path
    settings: Path
    port: int
    internal_ports: int
    log: Path

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return find_key(self.workspace)

    def client(self, target: str = "", key: str | None = None, timeout_s: float = 60.0) -> Client:
        return Client(target or self.target, self.key if key is None else key, timeout_s)

    def pids(self, title: str) -> list[int]:
        """Processes of this server whose command line or title holds ``title``."""
        return [pid for pid, command in processes_of(self.process.pid).items() if title in command]

    def own_port(self) -> int:
        """The port that the ingress replica itself listens on, behind HAProxy."""
        for port in range(self.internal_ports + 300, self.internal_ports + 400):
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return port
        raise AssertionError("the replica listens on none of its ports")


@contextmanager
def serving(workspace: Workspace, folder: Path, settings: str, ingress: str = "") -> Iterator[Server]:
    """Serve ``workspace`` with these settings (TOML) and more of ``[serve.ingress]``; yields once it answers.

    At the end it is asked to stop as by Ctrl-C, and whatever it leaves behind fails the test.
    """
    port, http_port, internal = free_ports()
    file = folder / "tandem.toml"
    file.write_text(
        f"{settings}\n[serve.ingress]\nport = {port}\nhttp_port = {http_port}\ninternal_ports = {internal}\n{ingress}\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TANDEM_"))}
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "serve", "--workspace", str(workspace.root), "--config", str(file)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, workspace.root, file, port, internal, log)
    try:
        with_key = workspace.api_key.exists
        wait_until(lambda: with_key() or process.poll() is not None, START_S, "the key is made")

        def answers() -> bool:
            assert process.poll() is None, f"the server ended with {process.returncode}:\n{log.read_text()[-3000:]}"
            with server.client(timeout_s=5.0) as client:
                return client.serving()

        wait_until(answers, START_S, f"the server answers; its log is {log}")
        yield server
    finally:
        _end(server)


def _end(server: Server) -> None:
    session = server.process.pid
    server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    deadline = time.monotonic() + 20
    while (left := processes_of(session)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert server.process.returncode is not None
    assert server.process.returncode >= 0, "the server had to be killed"
    assert not left, f"the server left processes behind: {left}"
