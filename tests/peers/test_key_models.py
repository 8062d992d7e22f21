"""A key of one model, and replicas that serve two: what real parsers read of each request is that model or nothing.

Starlette with python-multipart reads forms, Python's `json` JSON as FastAPI has it, grpcio messages. The rules of Go's
`encoding/json` are written out here: keys are compared without case, and the last one wins.
"""

import asyncio
import json
import socket
import threading
from concurrent import futures

import grpc
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from tritonclient.grpc import service_pb2, service_pb2_grpc

from conftest import Evener, wait_for
from test_keys import entry

KEY = "sk-chat"
FORM = "multipart/form-data; boundary=b"
CHAT, TRANSCRIBE = "/v1/chat/completions", "/v1/audio/transcriptions"


def by_python(body):
    """As `await request.json()` of FastAPI has it."""
    return json.loads(body)["model"]


def by_go(body):
    """As a struct with a field tagged `json:"model"` has it (https://pkg.go.dev/encoding/json#Unmarshal)."""
    fold = {"\u212a": "k", "\u017f": "s"}
    folded = lambda key: "".join(fold.get(letter, letter) for letter in key).lower()
    # Go takes UTF-8 alone; a byte order mark is no JSON to it.
    text = body.decode("utf-8", "replace")
    pairs = json.JSONDecoder(object_pairs_hook=list).raw_decode(text.lstrip(" \t\r\n"))[0]
    return [value for key, value in pairs if folded(key) == "model"][-1]


class Server:
    """Says which model each parser reads in a request."""

    def __init__(self):
        self.read = []
        app = Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST", "PUT"])])
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()), daemon=True)
        self.thread.start()
        wait_for("uvicorn", lambda: self.server.started)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    async def answer(self, request):
        names = {}
        body = await request.body()
        for rule in (by_python, by_go):
            try:
                names[rule.__name__] = rule(body)
            except (ValueError, LookupError, TypeError):
                pass
        try:
            form = await request.form()
            names["by_form"] = [value for value in form.getlist("model")][-1]
        except Exception:  # noqa: BLE001 - what a framework refuses is no way around
            pass
        names["by_query"] = request.query_params.get("model")
        names = {rule: name for rule, name in names.items() if name is not None}
        self.read.append(names)
        return JSONResponse(names)

    def end(self):
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.end()


def config(url, **more):
    models = {name: {"versions": {"v1": [url]}, "health": False, "retries": False} for name in ("chat", "vip")}
    return {"models": models, "keys": [entry("cheap", KEY, models=["chat"])], **more}


VIP = '{"model":"vip"}'
# A body, and the rule by which it asks for `vip`.
JSON = {
    "plain": (VIP.encode(), "by_python"),
    "escaped": (b'{"mod\\u0065l":"v\\u0069p"}', "by_python"),
    "twice": (b'{"model":"chat","model":"vip"}', "by_python"),
    "escaped beside": (b'{"model":"chat","\\u006dodel":"vip"}', "by_python"),
    "Model beside": (b'{"model":"chat","Model":"vip"}', "by_go"),
    "MODEL alone": (b'{"MODEL":"vip"}', "by_go"),
    "mOdEl first": (b'{"mOdEl":"vip","x":1}', "by_go"),
    "byte order mark": (b"\xef\xbb\xbf" + VIP.encode(), "by_python"),
    "UTF-16 with a mark": (VIP.encode("utf-16"), "by_python"),
    "UTF-16LE": (VIP.encode("utf-16-le"), "by_python"),
    "UTF-16BE": (VIP.encode("utf-16-be"), "by_python"),
    "UTF-32 with a mark": (VIP.encode("utf-32"), "by_python"),
    "UTF-32LE": (VIP.encode("utf-32-le"), "by_python"),
    "UTF-32BE": (VIP.encode("utf-32-be"), "by_python"),
    "NaN": (b'{"model":"vip","temperature":NaN}', "by_python"),
    "Infinity": (b'{"temperature":-Infinity,"model":"vip"}', "by_python"),
    "more behind it": (b'{"model":"vip"} {"model":"chat"}', "by_go"),
    "spaces around": (b'\r\n\t {"model":"vip"}\r\n', "by_python"),
}
FIRST = '--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nchat\r\n--b\r\n'
LAST = '\r\n\r\nvip\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nxx\r\n--b--\r\n'
HEADS = {
    "a second field": 'content-disposition: form-data; name="model"',
    "a parameter without a value": 'content-disposition: form-data; foo; name="model"',
    "an empty parameter": 'content-disposition: form-data;; name="model"',
    "two names": 'content-disposition: form-data; name="x"; name="model"',
    "upper case": 'CONTENT-DISPOSITION: form-data; NAME="model"',
    "without quotes": "content-disposition:form-data;name=model",
    "a backslash": 'content-disposition: form-data; name="mode\\l"',
    "another header first": 'content-type: text/plain; charset=utf-8\r\ncontent-disposition: form-data; name="model"',
    "a header twice": 'content-disposition: form-data; name="x"\r\ncontent-disposition: form-data; name="model"',
    "a disposition of its own": 'content-disposition: attachment; name="model"',
}
FORMS = {name: ((FIRST + head + LAST).encode(), FORM) for name, head in HEADS.items()}
ALONE = (FIRST.replace("chat", "vip") + 'content-disposition: form-data; name="x"' + LAST.replace("vip", "y")).encode()
FORMS |= {
    "two boundaries": (ALONE, "multipart/form-data; boundary=zz; boundary=b"),
    "two boundaries, the other way": (ALONE, "multipart/form-data; boundary=b; boundary=zz"),
    "a preamble": (b"preamble\r\n" + ALONE, FORM),
    "a parameter of the type": (ALONE, "multipart/form-data; foo; boundary=b"),
    "urlencoded": (b"model=vip", "application/x-www-form-urlencoded"),
    "urlencoded behind JSON": (b'{"model":"chat","x":"&model=vip&"}', "application/x-www-form-urlencoded"),
}


def ask(url, path, body, kind):
    headers = {"content-type": kind, "authorization": f"Bearer {KEY}"}
    return httpx.post(url + path, content=body, headers=headers)


def test_each_spelling_asks_a_real_parser_for_the_other_model(server):
    """Else the next test would show nothing."""
    for name, (body, rule) in JSON.items():
        assert ask(server.url, CHAT, body, "application/json").json().get(rule) == "vip", name
    read = {name: ask(server.url, TRANSCRIBE, body, kind).json().get("by_form") for name, (body, kind) in FORMS.items()}
    assert [*read.values()].count("vip") >= 8, read


@pytest.mark.parametrize("more", [{"default_model": "chat"}, {"routes": [{"match": {"path": "/*"}, "model": "chat"}]}])
def test_no_parser_reads_the_other_model_behind_evener(start, server, more):
    evener = start(Evener, config(server.url, **more))
    good = ask(evener.url, CHAT, b'{"model":"chat"}', "application/json")
    assert good.json() == {"by_python": "chat", "by_go": "chat"}
    small = FIRST.removesuffix("--b\r\n") + "--b--\r\n"
    assert ask(evener.url, TRANSCRIBE, small.encode(), FORM).json() == {"by_form": "chat"}
    server.read.clear()
    tricks = [(CHAT, body, "application/json", name) for name, (body, _) in JSON.items()]
    tricks += [("/api/chat", body, "text/plain", name) for name, (body, _) in JSON.items()]
    tricks += [("/any/path", body, "application/json", name) for name, (body, _) in JSON.items()]
    tricks += [(TRANSCRIBE, body, kind, name) for name, (body, kind) in FORMS.items()]
    tricks += [(f"{CHAT}?model=vip", b'{"model":"chat"}', "application/json", "query")]
    tricks += [(f"/v1/realtime?mod%65l=vip", b"", "text/plain", "query")]
    for path, body, kind, name in tricks:
        before = len(server.read)
        answer = ask(evener.url, path, body, kind)
        for names in server.read[before:]:
            assert "vip" not in names.values(), f"{name} at {path}: {names}"
            assert answer.status_code == 200
        if len(server.read) == before:
            assert 400 <= answer.status_code < 500, (name, answer.status_code)
    # They are refused; none is served with a name that was put in its place.
    assert server.read == []


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self):
        self.names = []

    def ModelInfer(self, request, context):
        self.names.append(request.model_name)
        return service_pb2.ModelInferResponse(model_name=request.model_name)

    def ModelStreamInfer(self, requests, context):
        for request in requests:
            self.names.append(request.model_name)
            yield service_pb2.ModelStreamInferResponse()

    def RepositoryModelLoad(self, request, context):
        self.names.append(request.model_name)
        return service_pb2.RepositoryModelLoadResponse()


@pytest.fixture
def triton():
    model = Triton()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(model, server)
    model.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield model
    server.stop(None).wait()


def test_grpcio_gets_messages_of_the_one_model(start, triton):
    evener = start(Evener, config(f"h2c://127.0.0.1:{triton.port}", default_model="chat"))
    key = (("authorization", f"Bearer {KEY}"),)
    ask_for = lambda name: service_pb2.ModelInferRequest(model_name=name, id="1")
    with grpc.insecure_channel(evener.url.removeprefix("http://")) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ModelInfer(ask_for("chat"), metadata=key).model_name == "chat"
        load = service_pb2.RepositoryModelLoadRequest(model_name="chat")
        for call in (
            lambda: stub.ModelInfer(ask_for("vip"), metadata=key),
            lambda: stub.ModelInfer(ask_for(""), metadata=key),
            lambda: stub.ModelInfer(ask_for("vip"), metadata=key, compression=grpc.Compression.Gzip),
            lambda: list(stub.ModelStreamInfer(iter([ask_for("chat"), ask_for("vip")]), metadata=key)),
            lambda: stub.RepositoryModelLoad(load, metadata=key),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT)
    # The same message where Evener sees no gRPC.
    message = ask_for("vip").SerializeToString()
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    path = "/inference.GRPCInferenceService/ModelInfer"
    for kind in ("application/grpc", "application/grpc+proto", "Application/GRPC", "application/grpc-web", "application/json"):
        assert 400 <= ask(evener.url, path, framed, kind).status_code < 500, kind
    assert set(triton.names) == {"chat"}, triton.names


def test_the_levers_of_a_server_are_closed(start, server):
    evener = start(Evener, config(server.url, default_model="chat"))
    server.read.clear()
    for path in ("/v1/load_lora_adapter", "/sleep", "/flush_cache", "/v2/repository/models/chat/unload", "/metrics"):
        answer = ask(evener.url, path, b'{"model":"chat"}', "application/json")
        assert answer.status_code == 403 and answer.headers["x-evener-error"] == "model_not_allowed", path
    with socket.create_connection(evener.url.removeprefix("http://").split(":")) as upgrade:
        upgrade.sendall(f"GET /v1/realtime?model=chat HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\n"
                        "connection: upgrade\r\nupgrade: websocket\r\n\r\n".encode())
        assert upgrade.recv(100).startswith(b"HTTP/1.1 403")
    assert server.read == []
