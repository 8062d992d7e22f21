"""Prometheus' own linter reads what the admin port exposes."""

import subprocess

import httpx

from conftest import Evener, Mock


def test_promtool_finds_nothing_wrong_with_the_metrics(start, tool):
    mock, bad = start(Mock, "v1"), start(Mock, "v2", "--error", "100%")
    evener = start(Evener, {"models": {"chat": {
        "versions": {"v1": [mock.url], "v2": [bad.url]}, "split": {"v1": 50, "v2": 50},
    }}})
    with httpx.Client(base_url=evener.url) as client:
        for i in range(40):
            client.post("/v1/chat/completions", json={
                "model": "chat" if i % 10 else 'odd "name"\n\\', "stream": i % 2 == 0,
                "messages": [{"role": "user", "content": "hi"}],
            })
    answer = httpx.get(f"{evener.admin}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.text
    assert 'evener_requests_total{' in text and 'version="v1"' in text
    assert "process_cpu_seconds_total" in text
    # Names of models that do not exist come from clients, and are never labels.
    assert "odd" not in text
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
