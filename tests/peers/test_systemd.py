"""systemd: its own reading of the unit file, and its protocol as the unit asks for it."""

import json
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from conftest import EVENER, Evener, Mock, Program, free_ports, wait_for

UNITS = Path(__file__).parents[2] / "systemd"


def test_systemd_finds_nothing_wrong_with_the_units(tool, tmp_path):
    # The program is not installed here.
    for name in ["evener.service", "evener.socket"]:
        text = (UNITS / name).read_text().replace("/usr/bin/evener", str(EVENER.resolve()))
        (tmp_path / name).write_text(text)
    units = sorted(tmp_path.glob("evener.*"))
    analyze = tool("systemd-analyze")
    found = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    version = int(re.search(r"systemd (\d+)", subprocess.check_output([analyze, "--version"], text=True))[1])
    said = [line for line in found.stderr.splitlines() if "evener.s" in line]
    if version < 253:  # which does not know it yet; systemd/README.md says what to do there
        said = [line for line in said if "service type, ignoring: notify-reload" not in line]
    assert (found.returncode, said) == (0, []), found.stderr


def named(name):
    """A program for `start`, which names the folder first."""
    return lambda folder, command: Program(name, folder, command)


class Manager:
    """The end of the socket where systemd listens."""

    def __init__(self, folder):
        self.path = str(folder / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(0.05)
        self.heard = []

    def listen(self):
        try:
            while True:
                self.heard += self.socket.recv(4096).decode().splitlines()
        except TimeoutError:
            return self.heard

    def wait_for(self, word, after=0):
        wait_for(f"{word} to be told", lambda: word in self.listen()[after:])
        return len(self.heard)


def test_systemd_is_told_of_readiness_life_reloads_and_the_end(start, tmp_path, monkeypatch):
    manager = Manager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    mock = start(Mock, "v1", "--tokens", "100", "--token-interval", "50ms")
    evener = start(Evener, {"models": {"chat": {"versions": {"v1": [mock.url]}}}})
    at = manager.wait_for("READY=1")
    manager.wait_for("WATCHDOG=1")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    evener.signal(signal.SIGHUP)
    manager.wait_for("READY=1", after=at)
    heard = manager.heard[at:]
    reload = heard.index("RELOADING=1")
    stamp = next(line for line in heard if line.startswith("MONOTONIC_USEC="))
    assert int(stamp.split("=")[1]) >= before
    assert reload < heard.index("READY=1")
    # It stays alive while it drains: a watchdog that bites then would cut what runs.
    chat = {"model": "chat", "stream": True, "messages": []}
    with httpx.stream("POST", f"{evener.url}/v1/chat/completions", json=chat, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        evener.signal(signal.SIGTERM)
        at = manager.wait_for("STOPPING=1", after=at)
        manager.wait_for("WATCHDOG=1", after=at)
        assert "data: [DONE]" in list(lines)
    assert evener.process.wait(30) == 0


def test_systemd_is_told_which_process_is_the_main_one_after_a_takeover(start, tmp_path, monkeypatch):
    manager = Manager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
    mock = start(Mock, "v1", "--tokens", "60", "--token-interval", "50ms")
    old = start(Evener, {"models": {"chat": {"versions": {"v1": [mock.url]}}}})
    chat = {"model": "chat", "stream": True, "messages": []}
    with httpx.stream("POST", f"{old.url}/v1/chat/completions", json=chat, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        new = start(named("successor"), [EVENER, "run", "--takeover", "-c", old.config])
        new.wait_for_line(r"^ready$")
        manager.wait_for(f"MAINPID={new.pid}")
        assert "data: [DONE]" in list(lines)
    assert old.process.wait(30) == 0
    # The unit goes on: nobody may say that it ends, nor be taken for the new one's sign of life.
    assert "STOPPING=1" not in manager.listen()
    assert httpx.get(f"{old.url}/healthz").status_code == 200
    assert new.end() == 0
    assert "STOPPING=1" in manager.listen()


def test_systemd_passes_sockets(start, tool, tmp_path):
    mock = start(Mock, "v1")
    config = tmp_path / "evener.yaml"
    public, admin, more = free_ports(3)
    config.write_text(json.dumps({
        "listeners": [
            {"name": "public", "address": "127.0.0.1:0"},
            {"name": "more", "address": f"127.0.0.1:{more}"},
        ],
        "admin": {"address": "127.0.0.1:0"},
        "state": {"dir": str(tmp_path / "state")},
        "models": {"chat": {"versions": {"v1": [mock.url]}}},
    }))
    listen = [f"--listen=127.0.0.1:{port}" for port in (public, admin, more)]
    activate = [tool("systemd-socket-activate"), *listen, "--fdname=public:admin:other"]
    evener = start(named("activated"), [*activate, EVENER, "run", "-c", config])
    # It starts with the first connection, which waits for it.
    wait_for("the sockets to be bound", lambda: evener.text().count("Listening on") == 3)
    assert httpx.get(f"http://127.0.0.1:{public}/healthz", timeout=30).status_code == 200
    evener.wait_for_line(r"^ready$")
    assert f"listening public http://127.0.0.1:{public}\n" in evener.text()
    assert f"listening admin http://127.0.0.1:{admin}\n" in evener.text()
    # By its address, whatever its name.
    assert httpx.get(f"http://127.0.0.1:{more}/healthz").status_code == 200
    assert httpx.get(f"http://127.0.0.1:{admin}/readyz").status_code == 200
    assert "systemd passed" not in evener.text()
