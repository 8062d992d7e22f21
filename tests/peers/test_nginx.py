"""nginx in front of Evener, as many sites have it: kept connections, and streams that are not held back."""

import json
import time

import httpx

from conftest import Evener, Mock, Nginx, free_ports, wait_for

HTTP = """
    upstream evener {{
        server {evener};
        keepalive 8;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://evener;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_buffering off;
        }}
    }}
"""


def test_nginx_in_front_keeps_connections_and_streams(start, tool):
    mock = start(Mock, "v1", "--tokens", "6", "--token-interval", "100ms")
    public = {"name": "public", "address": "127.0.0.1:0", "trusted_proxies": ["127.0.0.0/8"]}
    evener = start(Evener, {
        "listeners": [public], "models": {"chat": {"versions": {"v1": [mock.url]}}},
    })
    [port] = free_ports(1)
    start(Nginx, tool("nginx"), HTTP.format(evener=evener.url.removeprefix("http://"), port=port))
    chat = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        wait_for("nginx", lambda: client.get("/healthz").status_code == 200)
        head = client.get("/headers").json()["headers"]
        assert head["x-forwarded-for"].startswith("127.0.0.1")
        for _ in range(20):
            answer = client.post("/v1/chat/completions", json=chat | {"max_tokens": 1})
            assert answer.status_code == 200, answer.text
        times, events = [], []
        with client.stream("POST", "/v1/chat/completions", json=chat | {"stream": True}) as answer:
            for line in answer.iter_lines():
                if line:
                    times.append(time.monotonic())
                    events.append(line.removeprefix("data: "))
    assert events[-1] == "[DONE]"
    assert len([e for e in events[:-1] if json.loads(e)["choices"][0]["delta"]]) == 6
    assert times[5] - times[0] > 0.3, "the tokens came together"
