"""TLS with others' clients and servers: curl, the `openai` package, nginx as an https replica."""

import json
import ssl
import subprocess

import httpx
import openai

from conftest import Evener, Mock, Nginx, free_ports, wait_for

HTTP = """
    client_max_body_size 64m;
    upstream mock {{
        server {mock};
        keepalive 8;
    }}
    server {{
        listen 127.0.0.1:{old} ssl;
        listen 127.0.0.1:{new} ssl http2;
        ssl_certificate {folder}/replica.crt;
        ssl_certificate_key {folder}/replica.key;
        ssl_client_certificate {folder}/ca.crt;
        ssl_verify_client on;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
        }}
    }}
"""
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=60, **more)


def test_curl_and_openai_ask_over_tls(start, authority, tool, tmp_path):
    mock = start(Mock, "v1", "--tokens", "4", "--token-interval", "20ms")
    listener = {"name": "public", "address": "127.0.0.1:0", "tls": authority("evener")}
    evener = start(Evener, {
        "listeners": [listener], "models": {"chat": {"versions": {"v1": [mock.url]}}},
    })
    assert evener.url.startswith("https://")
    url = evener.url.replace("127.0.0.1", "localhost")
    for flag, version in [("--http1.1", "1.1"), ("--http2", "2")]:
        for tls in ["--tlsv1.3", "--tls-max 1.2"]:
            said = run(tool("curl"), "-sS", "--cacert", tmp_path / "ca.crt", flag, *tls.split(),
                       "-w", "\n%{http_version} %{http_code}", "-H", "content-type: application/json",
                       "-d", json.dumps(CHAT), f"{url}/v1/chat/completions").stdout.decode()
            body, last = said.rsplit("\n", 1)
            assert last == f"{version} 200", said
            assert json.loads(body)["choices"]
    stranger = subprocess.run(
        [tool("curl"), "-sS", f"{url}/healthz"], capture_output=True, text=True, timeout=60)
    assert stranger.returncode == 60, stranger
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    with openai.OpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=httpx.Client(verify=trusting),
    ) as client:
        answer = client.chat.completions.create(**CHAT)
        assert answer.choices[0].message.content
        texts = [chunk.choices[0].delta.content for chunk in client.chat.completions.create(**CHAT, stream=True)
                 if chunk.choices]
        assert "".join(text or "" for text in texts) == answer.choices[0].message.content


def test_nginx_is_a_replica_that_wants_a_certificate(start, authority, tool, tmp_path):
    mock = start(Mock, "v1", "--tokens", "4")
    authority("replica")
    shown = authority("client", "DNS:client")
    old, new = free_ports(2)
    http = HTTP.format(folder=tmp_path, mock=mock.url.removeprefix("http://"), old=old, new=new)
    start(Nginx, tool("nginx"), http)
    tls = {"ca": str(tmp_path / "ca.crt"), **shown}
    models = {
        name: {"versions": {"v1": {"replicas": [f"{url}"], "tls": tls}}, "health": {"path": "/health", "every": "1s"}}
        for name, url in {
            "old": f"https://127.0.0.1:{old}", "new": f"https://127.0.0.1:{new}", "grpcs": f"grpcs://localhost:{new}",
        }.items()
    }
    models["uninvited"] = {
        "health": False, "versions": {"v1": {"replicas": [f"https://127.0.0.1:{new}"], "tls": {"ca": tls["ca"]}}}}
    evener = start(Evener, {"models": models})
    with httpx.Client(base_url=evener.url, timeout=30) as client:
        for name in ["old", "new", "grpcs"]:
            wait_for("nginx", lambda: client.post("/v1/chat/completions", json=CHAT | {"model": name}).status_code == 200)
            for _ in range(20):
                answer = client.post("/v1/chat/completions", json=CHAT | {"model": name})
                assert answer.status_code == 200, answer.text
            long = "x" * 3_000_000
            answer = client.post("/v1/chat/completions", json={
                "model": name, "messages": [{"role": "user", "content": long}]})
            assert answer.status_code == 200, answer.text
            with client.stream("POST", "/v1/chat/completions", json=CHAT | {"model": name, "stream": True}) as stream:
                assert "".join(stream.iter_text()).endswith("data: [DONE]\n\n")
        # nginx answers 400 itself to those who show none.
        answer = client.post("/v1/chat/completions", json=CHAT | {"model": "uninvited"})
        assert answer.status_code == 400 and "No required SSL certificate" in answer.text, answer.text
    status = httpx.get(f"{evener.admin}/api/v1/status").json()
    states = {model["name"]: model["versions"][0]["replicas"][0]["state"] for model in status["models"]}
    assert states == {"old": "healthy", "new": "healthy", "grpcs": "healthy", "uninvited": "healthy"}
