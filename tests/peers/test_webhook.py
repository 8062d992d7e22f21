"""Webhooks of canaries, verified by the library that their receivers use."""

import base64
import http.server
import threading

import httpx
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from conftest import Evener, Mock, wait_for

SECRET = "whsec_" + base64.b64encode(b"shared by both").decode()


def test_what_is_told_can_be_verified(start, tmp_path):
    told = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            told.append((dict(self.headers.items()), body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    mock = start(Mock, "v1")
    (tmp_path / "secret").write_text(SECRET + "\n")
    evener = start(Evener, {"models": {"m": {
        "versions": {"v1": [mock.url], "v2": [mock.url + "/"]},
        "split": {"v1": 100, "v2": 0},
        "canary": {"candidate": "v2", "notify": {
            "webhook": f"http://127.0.0.1:{receiver.server_port}/hook",
            "secret": f"file:{tmp_path / 'secret'}",
        }},
    }}})
    answer = httpx.post(f"{evener.admin}/api/v1/models/m/canary/abort", json={"reason": "a test"})
    assert answer.status_code == 200, answer.text
    wait_for("both messages", lambda: len(told) == 2)
    events = [Webhook(SECRET).verify(body, headers)["event"] for headers, body in told]
    assert events == ["canary_began", "canary_rolled_back"]
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(b"another").decode()).verify(told[0][1], told[0][0])
    receiver.shutdown()
