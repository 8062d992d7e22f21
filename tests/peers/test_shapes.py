"""The same odd requests to Evener, nginx and HAProxy: what Evener refuses, and that what passes means the same to all."""

import random
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from conftest import Evener, Nginx, Program, free_ports, wait_for
from shapes import SHAPES, SMUGGLED, Replica, ask, mutated, numbered

MUTATED = 600
TABLE = Path(__file__).parents[2] / "conf/hygiene.md"

HTTP = """
    client_header_timeout 500ms;
    client_body_timeout 500ms;
    keepalive_timeout 300ms;
    lingering_close off;
    client_max_body_size 64k;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{replica};
            proxy_http_version 1.1;
        }}
    }}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 500ms
    timeout server 5s
    timeout http-request 500ms
    timeout http-keep-alive 300ms
frontend public
    bind 127.0.0.1:{port}
    default_backend replica
backend replica
    server one {replica}
"""


class Proxy:
    """One of the three, with a replica of its own."""

    def __init__(self, name, replica, address, admin=None):
        self.name, self.replica, self.address, self.admin = name, replica, address, admin

    def ask_all(self, requests):
        """The statuses that each request got, and how the replica read it."""
        self.replica.seen.clear()
        with ThreadPoolExecutor(24) as pool:
            statuses = list(pool.map(lambda raw: ask(self.address, raw), requests))
        read = defaultdict(list)
        for method, target, body in list(self.replica.seen):
            number = re.search(rb"/p(\d{5})", target)
            read[int(number[1]) if number else None].append((method, body))
        return statuses, read


@pytest.fixture
def proxies(start, tool, tmp_path):
    replicas = [Replica() for _ in range(3)]
    ports = free_ports(2)
    client = {"header_timeout": "500ms", "body_timeout": "500ms", "idle_timeout": "300ms", "max_body": "64KiB"}
    evener = start(Evener, {
        "listeners": [{"name": "public", "address": "127.0.0.1:0", "client": client}],
        "models": {"m": {"versions": {"v": [f"http://{replicas[0].address}"]}, "health": False, "ejection": False}},
    })
    haproxy = tmp_path / "haproxy.cfg"
    haproxy.write_text(HAPROXY.format(replica=replicas[2].address, port=ports[1]))
    start(Nginx, tool("nginx"), HTTP.format(replica=replicas[1].address, port=ports[0]))
    start(lambda folder: Program("haproxy", folder, [tool("haproxy"), "-db", "-f", haproxy]))
    addresses = [evener.url.removeprefix("http://"), *(f"127.0.0.1:{port}" for port in ports)]

    def listens(address):
        try:
            return ask(address, b"GET /ready HTTP/1.0\r\nHost: x\r\n\r\n")
        except OSError:
            return None

    for address in addresses:
        wait_for(address, lambda: listens(address))
    names, admins = ["Evener", "nginx", "HAProxy"], [evener.admin, None, None]
    yield [Proxy(*one) for one in zip(names, replicas, addresses, admins, strict=True)]
    for replica in replicas:
        replica.close()


def test_each_odd_shape_is_refused_and_none_reaches_a_replica(proxies):
    raw = [numbered(raw, i) for i, (raw, _) in enumerate(SHAPES.values())]
    # What follows an odd request must never be taken for another one.
    raw = [one + SMUGGLED for one in raw]
    found = {proxy.name: proxy.ask_all(raw) for proxy in proxies}
    wrong = []
    for i, (name, (_, wanted)) in enumerate(SHAPES.items()):
        statuses, read = found["Evener"][0][i], found["Evener"][1]
        if statuses[:1] != [wanted]:
            wrong.append(f"{name}: {wanted} is due, answered {statuses}")
        if wanted != 200 and (len(statuses) > 1 or read[i]):
            wrong.append(f"{name}: refused, but answered {statuses}, and a replica read {read[i]}")
        if wanted == 200 and len(read[i]) != 1:
            wrong.append(f"{name}: a replica read {read[i]}")
    assert not wrong, "\n".join(wrong)
    assert nothing_runs(proxies[0])
    # The others' columns are of the versions that the page names; this shows what those here do.
    text = TABLE.read_text()
    rows = dict(re.findall(r"^\| (.+?) \| .* \| (\w+) \|$", text, re.MULTILINE))
    for i, name in enumerate(SHAPES):
        cells = [word(found[proxy][0][i]) for proxy in ("HAProxy", "nginx", "Evener")]
        print(f"| {name} | {' | '.join(cells)} |")
        assert rows.get(name) == cells[2], f"conf/hygiene.md says {rows.get(name)} of {name}"


def nothing_runs(evener):
    """Is nothing in flight, and no connection left?"""
    def idle():
        status = httpx.get(f"{evener.admin}/api/v1/status").json()
        models = status["models"]
        running = sum(r["in_flight"] for m in models for v in m["versions"] for r in v["replicas"])
        metrics = httpx.get(f"{evener.admin}/metrics").text
        [open_now] = re.findall(r"^evener_connections\{.*\} (\d+)$", metrics, re.MULTILINE)
        return running == 0 and int(open_now) == 0
    return wait_for("Evener to be idle", idle)


def word(statuses):
    """What stands in the table of conf/README.md."""
    if not statuses:
        return "closed"
    return "passed" if statuses[0] == 200 else str(statuses[0])


def test_what_passes_several_means_the_same_to_all(proxies):
    chance = random.Random(7)
    shapes = [numbered(raw, 0) for raw, _ in SHAPES.values() if len(raw) < 2000]
    shapes = [shape for shape in shapes if b"/p00000" in shape]
    raw = [numbered(mutated(chance.choice(shapes), chance).replace(b"/p00000", b"/p", 1), i) for i in range(MUTATED)]
    found = {proxy.name: proxy.ask_all(raw)[1] for proxy in proxies}
    passed = {name: sum(bool(read[i]) for i in range(MUTATED)) for name, read in found.items()}
    print(passed)
    differ = [
        f"{raw[i]!r}: Evener {found['Evener'][i]}, {other} {found[other][i]}"
        for other in ("nginx", "HAProxy") for i in range(MUTATED)
        if found["Evener"][i] and found[other][i] and found["Evener"][i] != found[other][i]
    ]
    assert not differ, "\n".join(differ)
    assert nothing_runs(proxies[0])
    assert found["Evener"][None] == []
    assert passed["Evener"] > MUTATED / 20, passed
