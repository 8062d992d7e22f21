"""Traces of Evener, read by OpenTelemetry's own definition of what a collector is sent."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from conftest import Evener, Mock, wait_for

IDS = {"traceId", "spanId", "parentSpanId"}


@pytest.fixture
def collector():
    """A collector; `.bodies` are what it was sent."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/json")
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.bodies = bodies
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def as_protobuf_json(value):
    """OTLP writes ids in hexadecimal, where protobuf's JSON has base64: the one difference between them."""
    if isinstance(value, list):
        return [as_protobuf_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(item)).decode() if key in IDS else as_protobuf_json(item)
        for key, item in value.items()
    }


def read(bodies):
    """Unknown fields and wrong types raise."""
    requests = [
        json_format.ParseDict(as_protobuf_json(json.loads(body)), ExportTraceServiceRequest())
        for body in bodies
    ]
    return [(of.resource, span) for request in requests for of in request.resource_spans
            for scope in of.scope_spans for span in scope.spans]


def told(holder):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in holder.attributes}


def test_opentelemetry_reads_what_a_collector_is_sent(start, collector):
    mock = start(Mock, "v1", "--error", "0%")
    evener = start(Evener, {
        "telemetry": {"access_log": None, "otlp": {
            "endpoint": f"http://127.0.0.1:{collector.server_port}", "resource": {"service.name": "edge"},
        }},
        "models": {"chat": {"versions": {"v1": [mock.url]}, "health": False}},
    })
    trace, client = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    answer = httpx.post(f"{evener.url}/v1/chat/completions", json={
        "model": "chat", "stream": True, "messages": [{"role": "user", "content": "hi"}],
    }, headers={"traceparent": f"00-{trace}-{client}-01"})
    assert answer.status_code == 200
    found = wait_for("four spans", lambda: (spans := read(collector.bodies))[3:] and spans)
    assert {told(resource)["service.name"] for resource, _ in found} == {"edge"}
    spans = {span.name: span for _, span in found}
    assert set(spans) == {"POST chat", "route", "POST chat/v1", "relay"}
    server, attempt = spans["POST chat"], spans["POST chat/v1"]
    assert {span.trace_id.hex() for span in spans.values()} == {trace}
    assert (server.parent_span_id.hex(), server.kind) == (client, Span.SPAN_KIND_SERVER)
    assert (attempt.parent_span_id, attempt.kind) == (server.span_id, Span.SPAN_KIND_CLIENT)
    assert spans["relay"].parent_span_id == attempt.span_id
    assert all(len(span.span_id) == 8 for span in spans.values())
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in spans.values())
    about = told(server)
    assert (about["gen_ai.operation.name"], about["http.response.status_code"]) == ("chat", 200)
    assert about["evener.streaming"] is True
