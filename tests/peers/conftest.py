"""Starts what the tests talk to, and ends it by its pid."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

EVENER = Path(os.environ.get("EVENER", Path(__file__).parents[2] / "target/debug/evener"))
PEERS = Path(sys.executable).parent
# Of so many requests in a row from the start, each version gets its share (src/balance/spread.rs).
BLOCK = 128


def wait_for(what, condition, deadline=30.0):
    """Polls until the condition is truthy, and returns it. An exception of httpx is a no."""
    end = time.monotonic() + deadline
    while True:
        try:
            found = condition()
        except httpx.HTTPError as error:
            found, last = None, repr(error)
        else:
            last = repr(found)
        if found:
            return found
        assert time.monotonic() < end, f"waited {deadline} s in vain for {what}; last: {last}"
        time.sleep(0.02)


def free_ports(count):
    """Ports that were free a moment ago: for programs that cannot pick one themselves."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Program:
    """A process whose output goes to a file."""

    def __init__(self, name, folder, command, **more):
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, **more,
            )
        self.pid = self.process.pid

    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for_line(self, pattern, deadline=30.0):
        """The match of the first line that fits."""
        def seen():
            found = re.search(pattern, self.text(), re.MULTILINE)
            if not found:
                code = self.process.poll()
                assert code is None, f"{self.name} ended with {code}:\n{self.text()}"
            return found
        return wait_for(f"{self.name} to say {pattern!r}", seen, deadline)

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def end(self, deadline=30.0):
        """SIGTERM, and SIGKILL for one that does not obey. Returns the exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(deadline)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode


class Mock(Program):
    """`evener mock`."""

    def __init__(self, folder, version, *flags):
        command = [EVENER, "mock", "--listen", "127.0.0.1:0", "--version", version, *flags]
        super().__init__(f"mock-{version}", folder, command)
        self.url = self.wait_for_line(r"^listening mock (http://\S+)$")[1]

    def knobs(self):
        return httpx.get(f"{self.url}/mock").json()


class Evener(Program):
    """`evener run` with a configuration, which is a dictionary: JSON is YAML."""

    def __init__(self, folder, config, **more):
        base = {
            "listeners": [{"name": "public", "address": "127.0.0.1:0", "debug_headers": True}],
            "admin": {"address": "127.0.0.1:0"},
            "state": {"dir": str(folder / "state")},
            "shutdown": {"notice": "0s", "drain": "10s"},
        }
        self.config = folder / "evener.yaml"
        self.write(json.dumps(base | config, indent=1))
        super().__init__("evener", folder, [EVENER, "run", "-c", self.config], **more)
        self.wait_for_line(r"^ready$")
        self.url = self.wait_for_line(r"^listening public (https?://\S+)$")[1]
        self.admin = self.wait_for_line(r"^listening admin (http://\S+)$")[1]

    def write(self, text):
        """Replaces the file at once, as editors do."""
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.rename(self.config)


NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}
}}
"""


class Nginx(Program):
    """nginx without root; `http` is what its block of that name holds besides."""

    def __init__(self, folder, command, http):
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, http=http))
        super().__init__("nginx", folder, [command, "-p", folder, "-e", "stderr", "-c", config])


@pytest.fixture
def start(tmp_path):
    """`start(Kind, ...)` starts a program in this test's folder; it ends with the test."""
    started = []

    def begin(kind, *rest, **more):
        program = kind(tmp_path, *rest, **more)
        started.append(program)
        return program

    yield begin
    for program in reversed(started):
        program.end()


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory):
    """As `start`, for programs that are slow to start: they end with the module."""
    started = []

    def begin(kind, *rest, **more):
        program = kind(tmp_path_factory.mktemp("shared"), *rest, **more)
        started.append(program)
        return program

    yield begin
    for program in reversed(started):
        program.end()


@pytest.fixture
def tool():
    """The path of a command of Debian's. Without it the test fails: `tests/run` installs it."""
    def find(name):
        path = shutil.which(name)
        assert path, f"{name} is not installed: run tests/run, which installs it"
        return path

    return find


@pytest.fixture
def authority(tmp_path, tool):
    """Signs with `ca.crt`. Call it with a name: it writes NAME.crt and NAME.key."""
    config = tmp_path / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name=dn\n[dn]\n")

    def sign(*words):
        subprocess.run([tool("openssl"), *map(str, words)], check=True, capture_output=True, timeout=60)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-config", config]
    sign("req", "-x509", *key, "-subj", "/CN=test authority", "-days", "30",
        "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", tmp_path / "ca.key", "-out", tmp_path / "ca.crt")

    def issue(name, alternatives="DNS:localhost,IP:127.0.0.1"):
        sign("req", "-x509", *key, "-subj", f"/CN={name}", "-days", "30",
            "-addext", f"subjectAltName={alternatives}", "-addext", "basicConstraints=critical,CA:FALSE",
            "-CA", tmp_path / "ca.crt", "-CAkey", tmp_path / "ca.key",
            "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.crt")
        return {"cert": str(tmp_path / f"{name}.crt"), "key": str(tmp_path / f"{name}.key")}

    return issue


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of what its programs said."""
    outcome = yield
    report = outcome.get_result()
    folder = item.funcargs.get("tmp_path") if hasattr(item, "funcargs") else None
    if report.failed and folder:
        for log in sorted(folder.rglob("*.log")):
            text = log.read_text(errors="replace")[-4000:]
            report.sections.append((f"{log.name}", text))
