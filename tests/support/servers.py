"""Real servers inside a pod: `serving(pod, "redis")` starts one, waits until it answers, and ends it by its pid.

What is to be known of a server is one row of RECIPES (or a Recipe of a test's own): the programs that it needs and the Debian
packages that have them, how its folder is prepared, its command, its port. A test whose server is not installed skips,
naming the package. Each server has a folder of its own under the system's temporary one (pytest's are closed to the other
users that some servers insist on), removed at the end; nothing is left of it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGQUIT, SIGTERM
from subprocess import Popen
from typing import Final

import pytest

from clovisor_py.kernel import netns
from tests.support.netns import Pod, listens

PATIENCE_S: Final = 60.0
"""For a server to answer: a JVM on a busy machine takes half a minute."""
LAST_WORDS: Final = 2000
"""Characters of the log that are shown of a server that did not start."""
POSTGRES_BINARIES: Final = "/usr/lib/postgresql/*/bin"
KAFKA_JARS: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clovisor" / "servers" / "kafka"
KAFKA_SASL_PORT: Final = 9094
USER, PASSWORD = "lab", "lab"
"""Of servers that want some, where a test gives no others."""


@dataclass(frozen=True)
class Place:
    """Where a server lives: its pod, its folder (writable by `user`), and what the test asked for."""

    pod: Pod
    folder: Path
    options: Mapping[str, str]

    def option(self, name: str, default: str) -> str:
        return self.options.get(name, default)


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    pod: Pod
    port: int
    folder: Path
    process: Popen[bytes]

    @property
    def address(self) -> tuple[str, int]:
        """Where the host (and every pod that reaches this one) finds it."""
        return self.pod.ipv4, self.port

    def log(self) -> str:
        """What it said on its standard output and error."""
        return (self.folder / "log").read_text(errors="replace")


@dataclass(frozen=True)
class Recipe:
    """How a server is started. `needs`: program to the Debian package that has it (or a sentence that says how to get it)."""

    port: int
    needs: Mapping[str, str]
    command: Callable[[Place], Sequence[str]]
    prepare: Callable[[Place], None] = lambda place: None
    ready: Callable[[Place, int], bool] = lambda place, port: listens(place.pod.ipv4, port)
    user: str = ""
    """Who runs it, where root is refused; `nobody` if there is no such user."""
    stop: int = SIGTERM
    """What ends it at once, clients or not."""
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def serving(pod: Pod, what: str | Recipe, *, port: int = 0, **options: str) -> Iterator[Server]:
    """A server of RECIPES, or of a recipe, in the pod; `port` in place of its own. Skips where it is not installed."""
    name, recipe = (what, RECIPES[what]) if isinstance(what, str) else ("server", what)
    require(recipe.needs)
    number = port or recipe.port
    folder = Path(tempfile.mkdtemp(prefix=f"cvt-{name}-"))
    folder.chmod(0o755)
    process = None
    try:
        place = Place(pod, folder, {**options, "port": str(number)})
        recipe.prepare(place)
        process = _spawn(place, recipe)
        _await(name, recipe, place, process, number)
        yield Server(name, pod, number, folder, process)
    finally:
        if process is not None:
            _end(process, recipe.stop)
        shutil.rmtree(folder, ignore_errors=True)


def require(needs: Mapping[str, str]) -> None:
    """Skip, naming the programs that are absent and where they are to be had."""
    lacking = [f"{program} ({package})" for program, package in needs.items() if not find(program)]
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}")
    if "setpriv" in needs and not Path("/").stat().st_mode & 0o001:  # who runs as another user
        pytest.skip("needs a root folder that everybody may enter")


def find(program: str) -> str:
    """Its path, also where only root, or only the package itself, has it; a glob takes the last, a path is itself. Or empty."""
    if "/" in program:
        found = sorted(Path("/").glob(program.lstrip("/")), key=_version)
        return str(found[-1]) if found else ""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/lib/nginx") or ""


def _version(path: Path) -> tuple[int, ...]:
    """So that 15 comes behind 9."""
    return tuple(int(part) for part in path.parts if part.isdecimal())


def run_as(user: str, *command: str) -> list[str]:
    """The command as that user, with what root may do taken away."""
    known = user if user in {entry.pw_name for entry in pwd.getpwall()} else "nobody"
    entry = pwd.getpwnam(known)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", *command]


def _spawn(place: Place, recipe: Recipe) -> Popen[bytes]:
    command = list(recipe.command(place))
    env = {**os.environ, **recipe.environment}
    with (place.folder / "log").open("wb") as log:
        return place.pod.spawn(
            *(run_as(recipe.user, *command) if recipe.user else command), stdout=log, stderr=subprocess.STDOUT, env=env
        )


def _await(name: str, recipe: Recipe, place: Place, process: Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not recipe.ready(place, port):
        if process.poll() is not None or time.monotonic() > deadline:
            said = (place.folder / "log").read_text(errors="replace")[-LAST_WORDS:]
            pytest.fail(f"{name} did not start (exit status {process.poll()}): {said}")
        time.sleep(0.05)


def _end(process: Popen[bytes], signal: int) -> None:
    if process.poll() is None:
        process.send_signal(signal)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        netns.end([process], patience_s=1)


def _run(*command: str) -> None:
    """A preparation; what it said is shown where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    if done.returncode:
        pytest.fail(f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-LAST_WORDS:]}")


# ---- PostgreSQL ----

_PG_HBA: Final = """
local all all trust
host all plain all password
host all hashed all md5
host all all all scram-sha-256
"""
"""The users `plain` and `hashed`, where a test makes them, log in with the older methods."""


def _postgres(program: str) -> str:
    return find(f"{POSTGRES_BINARIES}/{program}")


def _prepare_postgresql(place: Place) -> None:
    """A cluster with the superuser USER, and a certificate: `ALTER SYSTEM SET ssl = on` and a reload use it."""
    folder = place.folder
    data, password = folder / "data", folder / "password"
    password.write_text(place.option("password", PASSWORD))
    key, certificate = folder / "server.key", folder / "server.crt"
    if find("openssl"):
        paths = ["-keyout", str(key), "-out", str(certificate)]
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        _run("openssl", "req", "-x509", "-days", "2", "-subj", "/CN=lab", *curve, *paths)
        key.chmod(0o600)
    _own(folder, "postgres")
    arguments = ["-A", "scram-sha-256", f"--pwfile={password}", "-U", USER, "--no-sync", "-E", "UTF8", "--locale=C"]
    _run(*run_as("postgres", _postgres("initdb"), "-D", str(data), *arguments))
    (data / "pg_hba.conf").write_text(_PG_HBA)


def _postgresql(place: Place) -> list[str]:
    settings = {
        "listen_addresses": "*",
        "port": place.options["port"],
        "unix_socket_directories": str(place.folder),
        "fsync": "off",
        "shared_buffers": "16MB",
        "password_encryption": "scram-sha-256",
        "ssl_cert_file": str(place.folder / "server.crt"),
        "ssl_key_file": str(place.folder / "server.key"),
    }
    return [_postgres("postgres"), "-D", str(place.folder / "data"), *(f"--{key}={value}" for key, value in settings.items())]


def _postgresql_ready(place: Place, port: int) -> bool:
    """A server that is still starting listens already, and refuses with an error."""
    probe = [_postgres("pg_isready"), "-q", "-h", place.pod.ipv4, "-p", str(port)]
    return subprocess.run(probe, check=False, timeout=PATIENCE_S).returncode == 0


def _own(folder: Path, user: str) -> None:
    known = user if user in {entry.pw_name for entry in pwd.getpwall()} else "nobody"
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, known)


# ---- Redis ----


def _redis(place: Place) -> list[str]:
    network = ["--port", place.options["port"], "--bind", "0.0.0.0", "--protected-mode", "no"]
    return [find("redis-server"), *network, "--save", "", "--appendonly", "no", "--dir", str(place.folder)]


# ---- Kafka: one node, KRaft; PLAINTEXT, and SASL PLAIN on a port of its own ----

_KAFKA: Final = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:9093
listeners=PLAINTEXT://{ip}:{port},SASL://{ip}:{sasl},CONTROLLER://127.0.0.1:9093
advertised.listeners=PLAINTEXT://{ip}:{port},SASL://{ip}:{sasl}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config={module} required user_{user}="{password}";
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=2
log.cleaner.enable=false
"""
_JAVA: Final = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{KAFKA_JARS}/*")
"""The quickest start: nobody measures this server."""
_SASL_PLAIN: Final = "org.apache.kafka.common.security.plain.PlainLoginModule"


def _prepare_kafka(place: Place) -> None:
    properties = place.folder / "properties"
    login = {"module": _SASL_PLAIN, "user": USER, "password": place.option("password", PASSWORD)}
    text = _KAFKA.format(ip=place.pod.ipv4, port=place.options["port"], sasl=KAFKA_SASL_PORT, folder=place.folder, **login)
    properties.write_text(text)
    cluster = "AAAAAAAAAAAAAAAAAAAAAQ"
    _run("java", *_JAVA, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties))


def _kafka(place: Place) -> list[str]:
    hosts = place.folder / "hosts"  # or SASL would wait for a name server that nobody reaches from the pod
    hosts.write_text(f"{place.pod.ipv4} pod\n{place.pod.host_ipv4} host\n127.0.0.1 localhost\n")
    return ["java", f"-Djdk.net.hosts.file={hosts}", *_JAVA, "kafka.Kafka", str(place.folder / "properties")]


def _kafka_ready(place: Place, port: int) -> bool:
    """It listens before its controller has let it in; the log says when that is over."""
    return "Kafka Server started" in (place.folder / "log").read_text(errors="replace") and listens(place.pod.ipv4, port)


RECIPES: Final[Mapping[str, Recipe]] = {
    "postgresql": Recipe(
        port=5432,
        needs={f"{POSTGRES_BINARIES}/initdb": "Debian: postgresql", "setpriv": "Debian: util-linux"},
        prepare=_prepare_postgresql,
        command=_postgresql,
        ready=_postgresql_ready,
        user="postgres",
        stop=SIGQUIT,
    ),
    "redis": Recipe(port=6379, needs={"redis-server": "Debian: redis-server"}, command=_redis, stop=SIGKILL),
    "kafka": Recipe(
        port=9092,
        needs={
            "java": "Debian: default-jre-headless",
            f"{KAFKA_JARS}/complete": "../shared/lab/servers/start kafka, once, fetches it",
        },
        prepare=_prepare_kafka,
        command=_kafka,
        ready=_kafka_ready,
        stop=SIGKILL,  # its data goes with its folder, and an orderly end takes seconds
    ),
}
