"""A real Elasticsearch for tests and benchmarks, from whatever is at hand.

    python tools/elasticsearch_node.py start|stop|status|url|fetch [--version 9|8]

    with node(version="9") as url: ...
    with cluster(nodes=2) as urls: ...
    with own_node(version="9") as running: running.restart()

In this order: the server that IMGSEARCH_ES_URL names (IMGSEARCH_ES8_URL for version 8); the node
that ``start`` left running; a Docker container; a node from Elastic's archive, which carries its
JDK, or from Maven Central, fetched once into the cache folder (IMGSEARCH_CACHE). Only the standard
library is used.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from elasticsearch_provision import (
    DISTRIBUTIONS,
    NodeError,
    account,
    cache_dir,
    fetch,
    java_for,
    output,
    say,
    tail,
)

__all__ = ["NodeError", "Running", "cluster", "node", "own_node", "request"]

START_LIMIT_S, STOP_LIMIT_S = 300.0, 20.0
ALONE = {"discovery.type": "single-node"}
MARKER = "-Dimgsearch_es.node="  # in the command line of every process of a node of ours


@dataclass(frozen=True)
class Node:
    """A running node: where it answers, and what ends it (a folder, or ``docker:ID``)."""

    url: str
    handle: str


# -- running -------------------------------------------------------------------------------------


def settings(home: Path, run: Path, cluster: Mapping[str, Any] = ALONE) -> dict[str, Any]:
    """elasticsearch.yml of a node for tests: on loopback, on a free port, never full."""
    chosen: dict[str, Any] = {
        "cluster.name": "imgsearch_es",
        "node.name": run.name,
        **cluster,
        "network.host": "127.0.0.1",
        "http.port": "0",
        "transport.port": "0",
        "node.portsfile": "true",  # writes logs/http.ports once it listens
        "path.data": str(run / "data"),
        "path.logs": str(run / "logs"),
        "xpack.security.enabled": "false",
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }
    optional = {
        "x-pack-ml": "xpack.ml.enabled",
        "ingest-geoip": "ingest.geoip.downloader.enabled",
    }
    for module, setting in optional.items():
        if (home / "modules" / module).is_dir():
            chosen[setting] = "false"
    return chosen


def _prepare(home: Path, heap: str, peers: Sequence[str] | None) -> Path:
    """A folder of its own for one run: configuration, data, logs, temporary files."""
    run = Path(tempfile.mkdtemp(prefix="imgsearch-es-node-")).resolve()
    for name in ("data", "logs", "tmp"):
        (run / name).mkdir()
    shutil.copytree(home / "config", run / "config")
    cluster: Mapping[str, Any] = ALONE
    if peers is not None:  # the first node makes the cluster, the others ask for it
        cluster = {"discovery.seed_hosts": list(peers)}
        cluster |= {} if peers else {"cluster.initial_master_nodes": [run.name]}
    chosen = settings(home, run, cluster)
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in chosen.items()]
    (run / "config/elasticsearch.yml").write_text("".join(lines))
    options = run / "config/jvm.options.d"
    options.mkdir(exist_ok=True)
    (options / "imgsearch.options").write_text(f"-Xms{heap}\n-Xmx{heap}\n{MARKER}{run}\n")
    if user := account():
        for path in (run, *run.rglob("*")):
            os.chown(path, user[1], user[2])
    return run


def _launch(version: str, home: Path, run: Path) -> subprocess.Popen[bytes]:
    java_home = java_for(version)
    java, marked = str(java_home / "bin/java"), f"-Xmx64m {MARKER}{run}"
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "HOME": str(run),
        "HOSTNAME": socket.gethostname(),
        "ES_HOME": str(home),
        "ES_PATH_CONF": str(run / "config"),
        "ES_TMPDIR": str(run / "tmp"),
        "ES_DISTRIBUTION_TYPE": "zip",
        "ES_JAVA_HOME": str(java_home),
        "JAVA_TYPE": "ES_JAVA_HOME",
        "JAVA": java,
        "CLI_JAVA_OPTS": marked,
    }
    if (home / "bin/elasticsearch").is_file():
        command = [str(home / "bin/elasticsearch")]
    else:  # what that script does; SonarQube's copy leaves it out
        launcher = home / "lib/tools/server-launcher/*"
        command = [java, *marked.split(), "-cp", str(launcher)]
        command += ["org.elasticsearch.server.launcher.ServerLauncher"]
    user = account()
    with (run / "node.log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=home,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to handle
            user=user and user[1],
            group=user and user[2],
            extra_groups=[] if user else None,
        )


def _provisioned(
    version: str,
    heap: str,
    announce: Callable[[str], None],
    peers: Sequence[str] | None = None,
) -> tuple[Node, subprocess.Popen[bytes]]:
    home = fetch(version)
    run = _prepare(home, heap, peers)
    announce(str(run))
    process = _launch(version, home, run)
    nodes = 1 + len(peers or ())
    try:
        url = _wait(lambda: _provisioned_url(process, run), run / "node.log", nodes)
    except BaseException:
        stop(str(run), process)
        raise
    return Node(url, str(run)), process


def _provisioned_url(process: subprocess.Popen[bytes], run: Path) -> str | None:
    if process.poll() is not None:
        raise NodeError(
            f"Elasticsearch ended while it started (status {process.returncode}); its last lines:\n"
            f"{tail((run / 'node.log').read_text(errors='replace'))}"
        )
    ports = run / "logs/http.ports"
    return f"http://{ports.read_text().split()[0]}" if ports.exists() else None


def _docker_command() -> str | None:
    docker = shutil.which("docker")
    answers = docker and output([docker, "version", "--format", "{{.Server.Version}}"], limit_s=5)
    return docker if answers else None


def _docker(version: str, heap: str, announce: Callable[[str], None]) -> Node | None:
    """A container, where a Docker engine answers and has or gets the image."""
    docker = _docker_command()
    if docker is None:
        return None
    command = [docker, "run", "--detach", "--rm", "--publish", "127.0.0.1::9200"]
    for setting in (
        "discovery.type=single-node",
        "xpack.security.enabled=false",
        "cluster.routing.allocation.disk.threshold_enabled=false",
        f"ES_JAVA_OPTS=-Xms{heap} -Xmx{heap}",
    ):
        command += ["--env", setting]
    image = f"elasticsearch:{DISTRIBUTIONS[version].number}"
    run = subprocess.run([*command, image], capture_output=True, text=True, check=False)
    if run.returncode:
        say(f"Docker could not run {image}, so not using it: {tail(run.stderr, lines=1)}")
        return None
    container = run.stdout.strip()
    announce(f"docker:{container}")
    try:
        address = output([docker, "port", container, "9200/tcp"]).partition("\n")[0]
        url = _wait(lambda: f"http://{address}", None)
    except BaseException:
        stop(f"docker:{container}")
        raise
    return Node(url, f"docker:{container}")


def _wait(address: Callable[[], str | None], log: Path | None, nodes: int = 1) -> str:
    """Poll until the cluster is yellow or green and has all its nodes; return its URL."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        url = address()
        with contextlib.suppress(OSError, ValueError):
            health = json.loads(request(url, "/_cluster/health")) if url else {}
            # A cluster that has not formed yet is green, with no node in it.
            if url and health["status"] != "red" and health["number_of_nodes"] >= nodes:
                return url
        time.sleep(0.2)
    last = f"; its last lines:\n{tail(log.read_text(errors='replace'))}" if log else ""
    raise NodeError(f"Elasticsearch did not answer within {START_LIMIT_S:.0f} s{last}")


def processes(run: str) -> list[int]:
    """The living processes of the node whose folder is ``run``, told by their command lines."""
    mark = f"{MARKER}{run}"
    found = []
    if Path("/proc/self/cmdline").exists():
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if mark in entry.read_bytes().decode(errors="replace").split("\0"):
                    found.append(int(entry.parent.name))
    else:
        for line in output(["ps", "-axww", "-o", "pid=,command="]).splitlines():
            number, *words = line.split()
            if mark in words:
                found.append(int(number))
    return found


def stop(handle: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """End a node and remove its data: ask first, then insist."""
    if handle.startswith("docker:"):
        output(["docker", "rm", "--force", handle.removeprefix("docker:")])
        return
    deadline = time.monotonic() + STOP_LIMIT_S
    for how in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes(handle):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        while processes(handle) and time.monotonic() < deadline:
            time.sleep(0.1)
    if process is not None:
        process.wait()
    shutil.rmtree(handle, ignore_errors=True)


# -- what is used from outside -------------------------------------------------------------------


@contextlib.contextmanager
def node(version: str = "9", heap: str = "1g") -> Iterator[str]:
    """The URL of a node; one started here ends with the block, or with this process.

    Raises:
        NodeError: no node could be had.
    """
    if url := named(version) or _running_url(version):
        yield url
        return
    with own_node(version, heap) as running:
        yield running.url


def named(version: str) -> str | None:
    """The server that IMGSEARCH_ES_URL names (IMGSEARCH_ES8_URL for version 8).

    Raises:
        NodeError: it does not answer.
    """
    variable = DISTRIBUTIONS[version].url_variable
    url = os.environ.get(variable)
    if not url:
        return None
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 9200)
    try:
        socket.create_connection((parts.hostname or "localhost", port), timeout=5).close()
    except OSError as error:
        raise NodeError(
            f"nothing answers at {parts.hostname}:{port}, which {variable} names ({error}): start "
            f"that server, or unset {variable}."
        ) from error
    return url.rstrip("/")


def at_hand(version: str) -> bool:
    """Whether ``node`` needs no copy: a server is named, a node runs, or Docker answers."""
    return bool(
        os.environ.get(DISTRIBUTIONS[version].url_variable)
        or _running_url(version)
        or _docker_command()
    )


class Running:
    """A node that nobody else uses.

    Attributes:
        url: where it answers; another one after a restart.
    """

    def __init__(self, version: str, node: Node, process: subprocess.Popen[bytes] | None) -> None:
        self.url = node.url
        self._version = version
        self._handle = node.handle
        self._process = process

    def restart(self) -> None:
        """Kill the node (SIGKILL) and start it again with its data; returns when it answers."""
        if self._handle.startswith("docker:"):
            container = self._handle.removeprefix("docker:")
            output(["docker", "restart", "--time", "0", container])
            address = output(["docker", "port", container, "9200/tcp"]).partition("\n")[0]
            self.url = _wait(lambda: f"http://{address}", None)
            return
        run = Path(self._handle)
        self._end(signal.SIGKILL)
        (run / "logs/http.ports").unlink()
        process = self._process = _launch(self._version, fetch(self._version), run)
        self.url = _wait(lambda: _provisioned_url(process, run), run / "node.log")

    def stop(self) -> None:
        """End the node and remove its data."""
        stop(self._handle, self._process)

    def _end(self, how: signal.Signals) -> None:
        while found := processes(self._handle):
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
            time.sleep(0.1)
        if self._process is not None:
            self._process.wait()


@contextlib.contextmanager
def own_node(version: str = "9", heap: str = "1g") -> Iterator[Running]:
    """A new node, even where one runs that ``node`` would give; it ends with the block.

    Raises:
        NodeError: no node could be had.
    """
    with _guarded() as tell:
        running = Running(version, *_start(version, heap, announce=tell))
        try:
            yield running
        finally:
            running.stop()


@contextlib.contextmanager
def cluster(nodes: int = 2, version: str = "9", heap: str = "512m") -> Iterator[list[str]]:
    """The URLs of the nodes of one cluster on this machine, which ends with the block.

    Raises:
        NodeError: a node could not be had.
    """
    with contextlib.ExitStack() as stack:
        urls: list[str] = []
        peers: list[str] = []
        for _ in range(nodes):
            tell = stack.enter_context(_guarded())
            started, process = _provisioned(version, heap, tell, list(peers))
            stack.callback(stop, started.handle, process)
            urls.append(started.url)
            peers.append((Path(started.handle) / "logs/transport.ports").read_text().split()[0])
        yield urls


@contextlib.contextmanager
def _guarded() -> Iterator[Callable[[str], None]]:
    """A second process ends the node when this one is gone without having done so, by kill -9 too.

    Gives a function that tells it which node.
    """
    command = [sys.executable, __file__, "guard"]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)

    def tell(line: str) -> None:
        assert guard.stdin is not None  # noqa: S101
        guard.stdin.write(f"{line}\n")
        guard.stdin.flush()

    try:
        yield tell
    finally:
        guard.communicate("stop\n")


def _start(
    version: str, heap: str, announce: Callable[[str], None]
) -> tuple[Node, subprocess.Popen[bytes] | None]:
    if container := _docker(version, heap, announce):
        return container, None
    return _provisioned(version, heap, announce)


def _state(version: str) -> Path:
    return cache_dir() / f"running-{version}.json"


def _started(version: str) -> Node | None:
    """The node that ``start`` noted down, whether it still runs or not."""
    try:
        return Node(**json.loads(_state(version).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _running_url(version: str) -> str | None:
    noted = _started(version)
    if noted is None or not (noted.handle.startswith("docker:") or processes(noted.handle)):
        return None
    with contextlib.suppress(OSError):
        request(noted.url, "/_cluster/health")
        return noted.url
    return None


def request(url: str, path: str, method: str = "GET") -> bytes:
    """The body of one HTTP exchange; user name and password may stand in the URL."""
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], path=""))
    message = urllib.request.Request(bare + path, method=method)  # noqa: S310
    if parts.username:
        token = base64.b64encode(f"{parts.username}:{parts.password or ''}".encode()).decode()
        message.add_header("Authorization", f"Basic {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the node is near
    with opener.open(message, timeout=10) as answer:
        body: bytes = answer.read()
    return body


def _command_start(version: str, heap: str) -> str:
    if url := named(version) or _running_url(version):
        return url
    started, _ = _start(version, heap, announce=lambda handle: None)
    cache_dir().mkdir(parents=True, exist_ok=True)
    _state(version).write_text(json.dumps({"url": started.url, "handle": started.handle}))
    return started.url


def _command_stop(version: str) -> str:
    noted = _started(version)
    if noted is None:
        return "not running"
    stop(noted.handle)
    _state(version).unlink(missing_ok=True)
    return "stopped"


def _command_url(version: str) -> str:
    if url := named(version) or _running_url(version):
        return url
    raise NodeError(f"no node is running: `{Path(sys.argv[0]).name} start --version {version}`.")


def _guard() -> None:
    handle = ""
    for line in sys.stdin:
        if line == "stop\n":
            return
        handle = line.strip()
    if handle:  # the end of the input without a "stop": the process that started us is gone
        stop(handle)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands: dict[str, Callable[[argparse.Namespace], object]] = {
        "start": lambda chosen: _command_start(chosen.version, chosen.heap),
        "stop": lambda chosen: _command_stop(chosen.version),
        "status": lambda chosen: _running_url(chosen.version) or "not running",
        "url": lambda chosen: _command_url(chosen.version),
        "fetch": lambda chosen: fetch(chosen.version),
        "guard": lambda chosen: _guard(),
    }
    parser.add_argument("command", choices=commands, metavar="start|stop|status|url|fetch")
    parser.add_argument("--version", choices=DISTRIBUTIONS, default="9")
    parser.add_argument("--heap", default="1g", help="memory of the node's JVM (1g)")
    chosen = parser.parse_args(arguments)
    try:
        if answer := commands[chosen.command](chosen):
            print(answer)
    except NodeError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
