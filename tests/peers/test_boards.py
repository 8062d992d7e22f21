"""Grafana's boards and Prometheus' rules: read by promtool, and asked in a real Prometheus that scrapes Evener."""

import importlib.util
import itertools
import json
import math
import re
import shutil
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from conftest import Evener, Mock, Program, free_ports, wait_for

CONF = Path(__file__).parents[2] / "conf"
RULES = CONF / "prometheus/rules.yml"
REFERENCE = (CONF / "README.md").read_text()
BOARDS = {path.name: json.loads(path.read_text()) for path in sorted((CONF / "grafana").glob("*.json"))}
# What Prometheus and its clients export everywhere.
USUAL = {"up", *(f"process_{name}" for name in (
    "cpu_seconds_total", "open_fds", "max_fds", "resident_memory_bytes", "start_time_seconds"))}
# Of the target, and of every histogram's buckets.
USUAL_LABELS = {"job", "instance", "le"}
# What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "5s", "$instance": ".*", "$model": "chat", "$version": ".*", "$replica": ".*"}


def documented():
    """Metrics of the reference's table, with their labels; a histogram's three series."""
    table = REFERENCE.split("<!-- metrics:")[1].split("<!-- end of metrics -->")[0]
    found = {}
    for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", table, re.MULTILINE):
        for end in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            found[name + end] = set(re.findall(r"\w+", labels))
    return found


def panels(board):
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries():
    """Every query of every board: (board, what asks it, expression)."""
    for name, board in BOARDS.items():
        for panel in panels(board):
            for target in panel["targets"]:
                yield name, panel["title"], target["expr"]
        for mark in board["annotations"]["list"]:
            yield name, mark["name"], mark["expr"]


def variables():
    """Every variable that asks for the values of a label: (board, variable, selector, label)."""
    for name, board in BOARDS.items():
        for made in board["templating"]["list"]:
            if made["type"] == "query":
                selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", made["query"]["query"]).groups()
                yield name, made["name"], selector, label


def filled_in(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def without_texts(yaml):
    """Rules without their comments and annotations, where words may look like metrics."""
    return re.sub(r"#.*$|^\s+(summary|description|runbook_url):.*$", "", yaml, flags=re.MULTILINE)


def promtool(tool, *words):
    done = subprocess.run([tool("promtool"), *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


# The files

def test_the_boards_are_what_make_py_makes():
    path = CONF / "grafana/make.py"
    spec = importlib.util.spec_from_file_location("make", path)
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    made = dict(make.texts())
    assert sorted(made) == sorted(BOARDS)
    for name, text in made.items():
        assert (CONF / "grafana" / name).read_text() == text, f"out of date: python3 {path}"


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_can_be_imported_anywhere_and_says_what_to_do(name):
    board = BOARDS[name]
    assert "id" not in board and board["uid"] == f"evener-{name.removesuffix('.json')}"
    assert board["schemaVersion"] >= 38
    source = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    asking = [*panels(board), *board["annotations"]["list"], *(t for p in panels(board) for t in p["targets"]),
              *(v for v in board["templating"]["list"] if v["type"] == "query")]
    assert all(one["datasource"] == source for one in asking)
    assert not re.search(r"https?://|localhost|\d+\.\d+\.\d+\.\d+", json.dumps(board))
    ids = [panel["id"] for panel in board["panels"]]
    assert ids == sorted(set(ids))
    for panel in panels(board):
        assert len(panel["description"]) > 20 and panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert at["x"] + at["w"] <= 24 and not cells & taken, f"{panel['title']} lies on another"
        taken |= cells
    known = {made["name"] for made in board["templating"]["list"]}
    used = set(re.findall(r"\$(?!__)(\w+)", json.dumps([p["targets"] for p in panels(board)])))
    assert used <= known


def test_every_metric_and_label_that_is_asked_for_is_documented():
    known = documented()
    recorded = set(re.findall(r"record: (\S+)", RULES.read_text()))
    texts = [expression for *_, expression in queries()] + [selector for _, _, selector, _ in variables()]
    for text in [*texts, without_texts(RULES.read_text())]:
        for name in re.findall(r"(?<![\w:])(?:evener[:_][\w:]+|process_\w+|up(?=\{))", text):
            assert name in known or name in USUAL or name in recorded, f"{name} in {text}"
        for name, labels in re.findall(r"(evener_\w+)\{(.*?)\}", text):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', labels)))
            assert used <= known[name] | USUAL_LABELS, f"{name}{{{labels}}}"
    for _, _, selector, label in variables():
        assert label in known[selector.split("{")[0]] | USUAL_LABELS


def test_every_alert_leads_to_its_runbook_and_is_tested_both_ways():
    rules, tests = RULES.read_text(), RULES.with_name("rules_test.yml").read_text()
    headings = re.findall(r"^#+ (.*)$", REFERENCE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-").lower() for heading in headings}
    alerts = re.split(r"^ +- alert: ", rules, flags=re.MULTILINE)[1:]
    assert len(alerts) > 15
    for text in alerts:
        name = text.split()[0]
        assert re.search(r"labels: \{severity: (critical|warning|info)\}", text), name
        assert re.search(r"^ +summary: .*\$labels", text, re.MULTILINE), name
        assert re.search(r"^ +description: .*\$(value|labels)", text, re.MULTILINE), name
        page, anchor = re.search(r"^ +runbook_url: (\S+)#(\S+)$", text, re.MULTILINE).groups()
        assert page == "conf/README.md" and anchor in anchors, f"{name} leads to {anchor}"
        assert name.lower() in anchor, name
        assert re.search(rf"- alertname: {name}\n.*\n +exp_alerts:\n", tests), f"{name} is never seen firing"
        assert f"- {{alertname: {name}, " in tests, f"{name} is never seen not firing"


def test_promtool_accepts_rules_and_configuration(tool):
    promtool(tool, "check", "rules", RULES)
    promtool(tool, "check", "config", CONF / "prometheus/prometheus.yml")


def test_promtool_sees_every_alert_fire_and_not_fire(tool):
    promtool(tool, "test", "rules", RULES.with_name("rules_test.yml"))


# A real Prometheus

class Prometheus(Program):
    """Debian's, with the configuration of this repository; only address and intervals are others."""

    def __init__(self, folder, binary, admin):
        text = (CONF / "prometheus/prometheus.yml").read_text()
        for was, shall in (("127.0.0.1:9900", admin.removeprefix("http://")), ("interval: 15s", "interval: 1s"),
                           ("interval: 30s", "interval: 1s")):
            assert was in text
            text = text.replace(was, shall)
        config = folder / "prometheus.yml"
        config.write_text(text)
        shutil.copy(RULES, folder)
        port = free_ports(1)[0]
        super().__init__("prometheus", folder, [
            binary, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"])
        # One for all queries: making one takes longer than a query.
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        wait_for("Prometheus", lambda: self.client.get("/-/ready").is_success)

    def end(self, deadline=30.0):
        self.client.close()
        return super().end(deadline)

    def get(self, path, **parameters):
        answer = self.client.get(f"/api/v1/{path}", params=parameters)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def numbers(self, expression):
        """What it answers, without what is not a number."""
        found = self.get("query", query=expression)["result"]
        return [sample for sample in found if math.isfinite(float(sample["value"][1]))]


@pytest.fixture
def load(request):
    """`load(url)` asks until the test is over, of four clients at once."""
    over = threading.Event()
    clients = []

    def ask(url, number):
        with httpx.Client(base_url=url, timeout=5) as client:
            for i in itertools.count(number):
                if over.is_set():
                    return
                try:
                    client.post("/v1/chat/completions", json={
                        "model": "nobody" if i % 20 == 0 else "chat", "stream": i % 2 == 0,
                        "messages": [{"role": "user", "content": "hi"}],
                    })
                except httpx.HTTPError:
                    # Some streams break, as they shall.
                    pass

    def begin(url):
        clients.extend(threading.Thread(target=ask, args=(url, n)) for n in range(4))
        for client in clients:
            client.start()

    yield begin
    over.set()
    for client in clients:
        client.join()


def test_every_query_of_every_board_gets_data_from_a_real_prometheus(start, tool, load):
    first, second = (start(Mock, version, "--latency", "lognormal:10ms,0.5", "--token-interval", "1ms", "--hang", "2%")
                     for version in ("v1", "v2"))
    bad = start(Mock, "bad", "--error", "100%")
    evener = start(Evener, {"telemetry": {"access_log": None}, "models": {"chat": {
        "versions": {"v1": [first.url, bad.url], "v2": [second.url]},
        "split": {"v1": 50, "v2": 50},
        "canary": {"candidate": "v2", "steps": [50, 100]},
        "mirror": {"to": "v2", "percent": 50},
        "hedge": {"after": "5ms"},
        "timeouts": {"first_byte": "300ms"},
        "retries": {"when": ["500"], "max": 1},
    }}})
    load(evener.url)
    for verb in ("promote", "start", "abort", "start"):
        answer = httpx.post(f"{evener.admin}/api/v1/models/chat/canary/{verb}", json={"reason": "a test"})
        assert answer.is_success, answer.text
    prometheus = start(Prometheus, tool("prometheus"), evener.admin)
    evener.write(evener.config.read_text().replace("300ms", "301ms"))
    httpx.post(f"{evener.admin}/api/v1/reload", json={})

    recorded = re.findall(r"record: (\S+)", RULES.read_text())
    still_empty = {(board, asker, filled_in(expression)) for board, asker, expression in queries()}
    # What the rules record, and what they join: series whose labels must be the same.
    still_empty |= {("rules.yml", "recorded", name) for name in recorded}
    still_empty |= {("rules.yml", "joined", joined) for joined in (
        "evener:observed_share:30m - evener_split_share",
        "sum without (replica, state) (evener_replica_state) and evener_split_share > 0",
        "evener_rollbacks_total and on (job, instance) evener_build_info",
    )}
    assert len(still_empty) > 80

    def all_have_data():
        for one in sorted(still_empty):
            if prometheus.numbers(one[2]):
                still_empty.discard(one)
        return "all have" if not still_empty else None

    try:
        wait_for("data of every query", all_have_data, 25)
    except AssertionError:
        raise AssertionError("\n".join(map(str, sorted(still_empty)))) from None
    for board, variable, selector, label in variables():
        values = prometheus.get(f"label/{label}/values", **{"match[]": filled_in(selector)})
        assert values, (board, variable)

    # The rules are understood, and see what is wrong now: a file that is rejected.
    evener.write("listeners: nonsense\n")
    httpx.post(f"{evener.admin}/api/v1/reload", json={})
    wait_for("the alert about the reload", lambda: [
        alert for alert in prometheus.get("alerts")["alerts"] if alert["labels"]["alertname"] == "EvenerReloadFailed"])
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 25
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}

    # All that is exported is documented.
    exported = set(re.findall(r"^# TYPE (\w+)", httpx.get(f"{evener.admin}/metrics").text, re.MULTILINE))
    names = {re.sub("_(bucket|sum|count)$", "", name) for name in documented()} | set(documented())
    assert {name for name in exported if not name.startswith("process_")} <= names
