"""`evener status --watch` on a real terminal: drawn in place, and everything as it was afterwards."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading

import httpx
import pytest
from conftest import EVENER, Evener, Mock, wait_for

OPENED, CLOSED = "\x1b[?1049h", "\x1b[?1049l"


class Terminal:
    """A command on a terminal of 60 columns and 14 rows."""

    def __init__(self, *command, **environment):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 14, 60, 0, 0))
        self.keys = lambda: termios.tcgetattr(slave)[3]
        self.keys_before = self.keys()
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, env=dict(os.environ, **environment),
        )
        self.seen = ""
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while data := os.read(self.master, 65536):
            self.seen += data.decode(errors="replace")

    def frame(self):
        """The last whole frame, line by line, as a terminal without colors shows it."""
        frames = self.seen.split("\x1b[H")
        if len(frames) < 3:
            return []
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in frames[-2].split("\r\n")]

    def shows(self, word):
        return wait_for(f"the terminal to show {word!r}", lambda: self.frame() and word in "\n".join(self.frame()))


@pytest.fixture
def site(start):
    mocks = [start(Mock, "v1"), start(Mock, "v2")]
    model = {
        "versions": {"v1": [mocks[0].url], "v2": [mocks[1].url]}, "split": {"v1": 50, "v2": 50},
        "health": {"path": "/health", "every": "100ms", "timeout": "50ms", "fall": 1},
    }
    return start(Evener, {"models": {"chat": model}}), mocks


@pytest.fixture
def watch():
    """`watch(evener)` watches it; it ends with the test."""
    watching = []

    def begin(evener, **environment):
        watching.append(Terminal(EVENER, "status", "--watch", "--admin", evener.admin, **environment))
        return watching[-1]

    yield begin
    for terminal in watching:
        terminal.process.kill()
        terminal.process.wait()


@pytest.mark.parametrize("end", ["q", "interrupt", "terminate"])
def test_it_is_drawn_in_place_and_leaves_the_terminal_as_it_was(site, watch, end):
    evener, _ = site
    terminal = watch(evener)
    terminal.shows("chat")
    assert "\x1b[32mhealthy\x1b[0m" in terminal.seen
    assert terminal.keys() != terminal.keys_before
    if end == "q":
        os.write(terminal.master, b"q")
    elif end == "interrupt":
        os.kill(terminal.process.pid, signal.SIGINT)
    else:
        os.kill(terminal.process.pid, signal.SIGTERM)
    assert terminal.process.wait(10) == 0
    wait_for("the terminal to be left", lambda: terminal.seen.endswith(CLOSED))
    assert terminal.seen.count(OPENED) == terminal.seen.count(CLOSED) == 1
    assert "\x1b[2J" not in terminal.seen, "clearing first would flicker"
    assert terminal.keys() == terminal.keys_before


def test_rates_states_and_a_lost_connection_show_without_a_new_start(site, watch):
    evener, mocks = site
    terminal = watch(evener, NO_COLOR="1")
    terminal.shows("REQ/S")
    assert "SLOWNESS" not in "\n".join(terminal.frame()), "columns that do not fit go first"
    with httpx.Client() as client:
        def rate():
            client.get(f"{evener.url}/v1/models/chat")
            found = re.search(r"chat  ([0-9.]+) req/s", "\n".join(terminal.frame()))
            return found and float(found[1]) > 5
        wait_for("requests a second", rate)
    mocks[1].kill()
    terminal.shows("unhealthy")
    assert all(len(line) <= 60 for line in terminal.frame()), terminal.frame()
    assert len(terminal.frame()) <= 14
    assert "\x1b[3" not in terminal.seen, "NO_COLOR"
    evener.signal(signal.SIGSTOP)
    try:
        terminal.shows("connection lost")
        assert any("v1" in line for line in terminal.frame()), "what was seen last stays"
    finally:
        evener.signal(signal.SIGCONT)
    wait_for("the connection to be back", lambda: "connection lost" not in "\n".join(terminal.frame()))
    os.write(terminal.master, b"q")
    assert terminal.process.wait(10) == 0


def test_without_a_terminal_it_is_plain_lines_and_nobody_there_ends_it_at_once(site, watch):
    evener, _ = site
    command = [EVENER, "status", "--watch", "--admin", evener.admin]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as plain:
        text = "".join(plain.stdout.readline() for _ in range(30))
        plain.send_signal(signal.SIGTERM)
        plain.wait(10)
    assert text.count("evener 0.") >= 2 and "\x1b" not in text
    evener.end()
    terminal = watch(evener)
    assert terminal.process.wait(10) == 1
    wait_for("the error", lambda: "cannot reach Evener" in terminal.seen)
    assert OPENED not in terminal.seen
