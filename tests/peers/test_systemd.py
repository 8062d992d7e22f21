"""systemd: its own reading of the unit file, and its protocol as the unit asks for it."""

import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from conftest import EVENER, Evener, Mock, wait_for

UNIT = Path(__file__).parents[2] / "systemd/evener.service"


def test_systemd_finds_nothing_wrong_with_the_unit(tool, tmp_path):
    unit = tmp_path / "evener.service"
    # The program is not installed here.
    unit.write_text(UNIT.read_text().replace("/usr/bin/evener", str(EVENER.resolve())))
    analyze = tool("systemd-analyze")
    found = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    version = int(re.search(r"systemd (\d+)", subprocess.check_output([analyze, "--version"], text=True))[1])
    said = [line for line in found.stderr.splitlines() if "evener.service" in line]
    if version < 253:  # which does not know it yet; systemd/README.md says what to do there
        said = [line for line in said if "service type, ignoring: notify-reload" not in line]
    assert (found.returncode, said) == (0, []), found.stderr


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
