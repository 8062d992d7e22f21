"""Model servers whose streams begin well and then break, stall or say that there is no room; and a relay to cut."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What becomes of a stream after its first pieces.
WAYS = ("break", "stall", "overload")


def event(data, name=None):
    return ((f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n").encode()


def line(data):
    return json.dumps(data).encode() + b"\n"


def chat(text):
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


RESPONSE = {"id": "r", "object": "response", "created_at": 1, "model": "m", "output": [], "status": "in_progress",
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None,
           "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 1}}
BUSY = {"message": "the engine is overloaded", "type": "overloaded_error", "code": 429, "param": None}

# By the end of the path: media type, what the stream begins with, and how its server says that there is no room.
STREAMS = {
    "/chat/completions": ("text/event-stream", event(chat("one")) + event(chat("two")), event({"error": BUSY})),
    "/completions": (
        "text/event-stream",
        event({"id": "c", "object": "text_completion", "created": 1, "model": "m",
               "choices": [{"index": 0, "text": "one", "finish_reason": None, "logprobs": None}]}),
        event({"error": BUSY}),
    ),
    "/responses": (
        "Text/Event-Stream; charset=utf-8",
        event({"type": "response.created", "sequence_number": 0, "response": RESPONSE}, "response.created"),
        event({"type": "error", "sequence_number": 1, "code": "rate_limit_exceeded", "message": BUSY["message"],
               "param": None, "error": BUSY}, "error"),
    ),
    "/messages": (
        "text/event-stream",
        event({"type": "message_start", "message": MESSAGE}, "message_start")
        + event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                "content_block_start")
        + event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}},
                "content_block_delta"),
        event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error"),
    ),
    "/generate_stream": (
        "text/event-stream",
        event({"model_name": "m", "model_version": "1", "text_output": "one"}),
        event({"error": "the queue is full", "error_type": "overloaded"}),
    ),
    ":streamGenerateContent": (
        "text/event-stream",
        event({"candidates": [{"content": {"role": "model", "parts": [{"text": "one"}]}}]}),
        event({"error": {"code": 429, "message": "no room", "status": "RESOURCE_EXHAUSTED"}}),
    ),
    "/api/chat": (
        "application/x-ndjson",
        line({"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": False,
              "message": {"role": "assistant", "content": "one"}}),
        line({"error": "too many requests", "error_type": "overloaded"}),
    ),
}


class Breaking:
    """Answers every request with a stream that ends in one of `WAYS`; one that is not streamed with an error."""

    def __init__(self, way):
        self.done = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length") or 0))
                path = self.path.split("?")[0]
                found = next((end for end in STREAMS if path.endswith(end)), None)
                if found is None:
                    return self.refuse()
                kind, begins, busy = STREAMS[found]
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self.chunk(begins)
                if way == "stall":
                    server.done.wait(30)
                if way == "overload":
                    self.chunk(busy)
                    self.wfile.write(b"0\r\n\r\n")
                self.close_connection = True

            def refuse(self):
                if way == "stall":
                    server.done.wait(30)
                if way == "overload":
                    body = b'{"error": "the queue is full"}'
                    self.send_response(429)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                self.close_connection = True

            def chunk(self, data):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                self.wfile.flush()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self):
        self.done.set()
        self.server.shutdown()
        self.server.server_close()


class Relay:
    """Passes connections on to a port of this machine, until they are cut."""

    def __init__(self, port):
        self.to = port
        self.open = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.to))
            self.open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        sink.close()

    def cut(self):
        """Ends all connections as if the machine behind them were gone."""
        for one in self.open:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()
        self.open.clear()

    def end(self):
        self.listener.close()
        self.cut()
