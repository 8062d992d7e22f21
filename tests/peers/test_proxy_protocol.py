"""HAProxy in front, below HTTP: it says whose connection it passes on, before TLS and its own checks included."""

import json
import subprocess

from conftest import Evener, Mock, Program, free_ports, wait_for

HAPROXY = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend one
    bind 127.0.0.1:{one}
    default_backend one
frontend two
    bind 127.0.0.1:{two}
    default_backend two
backend one
    server evener {plain} send-proxy
backend two
    server evener {secure} send-proxy-v2 check inter 200ms
"""


def test_haproxy_names_the_client(start, authority, tool, tmp_path):
    mock = start(Mock, "v1")
    common = {"address": "127.0.0.1:0", "proxy_protocol": True, "trusted_proxies": ["127.0.0.1/32"]}
    evener = start(Evener, {
        "listeners": [{"name": "public", **common}, {"name": "secure", **common, "tls": authority("evener")}],
        "models": {"chat": {"versions": {"v1": [mock.url]}}},
    })
    secure = evener.wait_for_line(r"^listening secure https://(\S+)$")[1]
    one, two = free_ports(2)
    config = tmp_path / "haproxy.cfg"
    config.write_text(HAPROXY.format(one=one, two=two, plain=evener.url.removeprefix("http://"), secure=secure))
    start(lambda folder: Program("haproxy", folder, [tool("haproxy"), "-db", "-f", config]))

    def ask(url, source):
        said = subprocess.run(
            [tool("curl"), "-sS", "--cacert", tmp_path / "ca.crt", "--interface", source, f"{url}/headers"],
            capture_output=True, text=True, timeout=60)
        return said.returncode == 0 and json.loads(said.stdout)["headers"]

    for url, scheme, source in [
        (f"http://localhost:{one}", "http", "127.0.0.2"), (f"https://localhost:{two}", "https", "127.0.0.3"),
    ]:
        head = wait_for("HAProxy", lambda: ask(url, source))
        assert head["x-forwarded-for"] == source
        assert head["x-forwarded-proto"] == scheme
        wait_for("the access log", lambda: f'"client":"{source}"' in evener.text())
    # Its checks say that they speak of themselves, and are no failures.
    stats = subprocess.run([tool("curl"), "-sS", f"{evener.admin}/metrics"], capture_output=True, text=True).stdout
    assert 'code="bad_proxy_header"' not in stats
