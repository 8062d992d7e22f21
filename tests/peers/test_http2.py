"""HTTP/1 and HTTP/2 by clients that are not ours: curl, and h2load with many streams at once."""

import json
import re
import subprocess

import pytest

from conftest import Evener, Mock

BODY = json.dumps({"model": "m", "prompt": "x", "pad": "x" * 20_000})


@pytest.fixture(params=["http", "h2c"])
def evener(request, start):
    mocks = [start(Mock, f"v{i}") for i in range(2)]
    replicas = [mock.url.replace("http", request.param) for mock in mocks]
    return start(Evener, {"models": {"m": {"versions": {"v": replicas}}}})


@pytest.mark.parametrize(("flag", "version"), [
    ("--http1.0", "1.0"), ("--http1.1", "1.1"), ("--http2-prior-knowledge", "2"),
])
def test_curl_is_served_over_each_version(evener, tool, tmp_path, flag, version):
    body, got = tmp_path / "body", tmp_path / "got"
    body.write_text(BODY)
    told = subprocess.run(
        [tool("curl"), "-sS", flag, "--max-time", "20", "-H", "content-type: application/json",
         "--data-binary", f"@{body}", "-o", got, "-w", "%{http_code} %{http_version}", f"{evener.url}/echo"],
        capture_output=True, text=True, check=True).stdout
    # HTTP/1.0 is answered as what it is asked in, with a version that says more is known (RFC 9110 §2.5).
    assert told == f"200 {version.replace('1.0', '1.1')}"
    assert got.read_text() == BODY


@pytest.mark.parametrize("flags", [["--h1", "-c", "20"], ["-c", "4", "-m", "50"], ["-c", "1", "-m", "200"]])
def test_h2load_has_no_errors(evener, tool, tmp_path, flags):
    body = tmp_path / "body"
    body.write_text(BODY)
    text = subprocess.run(
        [tool("h2load"), *flags, "-n", "1000", "-T", "20", "-d", body, "-H", "content-type: application/json",
         f"{evener.url}/v1/completions"],
        capture_output=True, text=True, check=True, timeout=60).stdout
    told = re.search(r"^requests: 1000 total.*, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout$", text, re.M)
    assert told and told.groups() == ("1000", "0", "0", "0"), text
    assert re.search(r"^status codes: 1000 2xx", text, re.M), text
