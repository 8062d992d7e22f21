"""gRPC's own clients and servers: grpcio on both sides, its health and reflection services, and Evener between."""

import threading
from collections import Counter
from concurrent import futures

import grpc
import httpx
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from conftest import Evener, Mock, wait_for

SERVICE = "inference.GRPCInferenceService"


class Model(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers with the name that it was asked by, and says in trailers who it is."""

    def __init__(self, name):
        self.name = name
        self.calls = Counter()
        self.hangs = threading.Event()

    def ModelInfer(self, request, context):
        self.calls["ModelInfer"] += 1
        self.hangs.wait(30 if request.id == "hang" else 0)
        context.set_trailing_metadata((("x-served-by", self.name),))
        if request.id == "busy":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many: 100 %")
        raw = request.raw_input_contents
        return service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id, raw_output_contents=raw)

    def ModelStreamInfer(self, requests, context):
        context.set_trailing_metadata((("x-served-by", self.name),))
        for request in requests:
            answer = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
            yield service_pb2.ModelStreamInferResponse(infer_response=answer)


class Server:
    """A server of grpcio with one model."""

    def __init__(self, name, credentials=None):
        self.model = Model(name)
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self.model, self.server)
        # A service that nobody knows here: the client streams, and is answered once.
        count = grpc.stream_unary_rpc_method_handler(lambda requests, _: b"%d" % len(list(requests)))
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("own.Counter", {"Count": count}),))
        self.health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        reflection.enable_server_reflection((f"{SERVICE}", reflection.SERVICE_NAME), self.server)
        if credentials:
            self.url = f"grpcs://127.0.0.1:{self.server.add_secure_port('127.0.0.1:0', credentials)}"
        else:
            self.url = f"grpc://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def say(self, status):
        self.health.set("", status)


@pytest.fixture
def servers():
    started = [Server(f"s{i}") for i in range(3)]
    yield started
    for server in started:
        server.model.hangs.set()
        server.server.stop(None)


def config(servers, **more):
    urls = [server.url for server in servers]
    version = {"replicas": urls, "upstream_model": "name-of-the-server"}
    return {"models": {"resnet": {"versions": {"v1": version}, "health": False} | more}}


@pytest.fixture
def evener(start, servers):
    return start(Evener, config(servers))


@pytest.fixture
def channel(evener):
    with grpc.insecure_channel(evener.url.removeprefix("http://")) as channel:
        yield channel


def infer(**fields):
    return service_pb2.ModelInferRequest(model_name="resnet", **fields)


def test_a_unary_call_passes_with_its_trailers(channel, servers):
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    for size in (0, 3, 3_000_000):
        answer, call = stub.ModelInfer.with_call(infer(id="7", raw_input_contents=[b"x" * size]), timeout=30)
        assert (answer.model_name, answer.id, len(answer.raw_output_contents[0])) == ("name-of-the-server", "7", size)
        assert dict(call.trailing_metadata())["x-served-by"] in {"s0", "s1", "s2"}
    with pytest.raises(grpc.RpcError) as failed:
        stub.ModelInfer(infer(id="busy"), timeout=30)
    assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failed.value.details() == "too many: 100 %"


def test_a_bidirectional_stream_is_answered_message_by_message(channel):
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    answered = threading.Semaphore(1)

    def questions():
        for i in range(5):
            # The next one leaves only when the one before was answered.
            assert answered.acquire(timeout=20)
            yield infer(id=str(i))

    stream = stub.ModelStreamInfer(questions(), timeout=30)
    seen = []
    for answer in stream:
        seen.append((answer.infer_response.model_name, answer.infer_response.id))
        answered.release()
    assert seen == [("name-of-the-server", str(i)) for i in range(5)]
    assert dict(stream.trailing_metadata())["x-served-by"].startswith("s")


def test_a_client_stream_of_another_service_goes_to_the_default_model(channel):
    count = channel.stream_unary("/own.Counter/Count")
    assert count((b"%d" % i for i in range(100)), timeout=30) == b"100"


def test_a_deadline_is_kept_and_a_wrong_name_is_told(channel, servers, evener):
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    with pytest.raises(grpc.RpcError) as late:
        stub.ModelInfer(infer(id="hang"), timeout=0.5)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(grpc.RpcError) as unknown:
        stub.ModelInfer(service_pb2.ModelInferRequest(model_name="resnt"), timeout=30)
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    assert "did you mean `resnet`?" in unknown.value.details()
    assert dict(unknown.value.trailing_metadata())["x-evener-error"] == "model_not_found"


def test_300_calls_of_one_channel_are_spread_evenly(start, servers):
    for balance, most in (("least_load", 30), ("round_robin", 1)):
        evener = start(Evener, config(servers, balance=balance))
        before = [server.model.calls["ModelInfer"] for server in servers]
        with grpc.insecure_channel(evener.url.removeprefix("http://")) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            running = [stub.ModelInfer.future(infer(id="x"), timeout=60) for _ in range(300)]
            assert all(call.result() for call in running)
        served = [server.model.calls["ModelInfer"] - n for server, n in zip(servers, before)]
        assert all(abs(n - 100) <= most for n in served), (balance, served)
        evener.end()


def test_health_is_asked_of_evener_and_by_evener(start, servers):
    for server in servers:
        server.say(health_pb2.HealthCheckResponse.SERVING)
    health_check = {"grpc": "", "every": "200ms", "timeout": "100ms", "fall": 1, "rise": 1}
    evener = start(Evener, config(servers, health=health_check, fail_open=False))
    with grpc.insecure_channel(evener.url.removeprefix("http://")) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def status(name):
            return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=30).status
        assert status("") == health_pb2.HealthCheckResponse.SERVING
        wait_for("the first probes", lambda: status("resnet") == health_pb2.HealthCheckResponse.SERVING)
        with pytest.raises(grpc.RpcError) as unknown:
            status("other")
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="resnet"), timeout=60)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        for server in servers:
            server.say(health_pb2.HealthCheckResponse.NOT_SERVING)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as down:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer(), timeout=30)
        assert down.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "3 failing their health check" in down.value.details()
        watch.cancel()


def test_reflection_tells_what_a_replica_serves(channel):
    told = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert set(told) == {SERVICE, "grpc.reflection.v1alpha.ServerReflection"}


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_calls_are_encrypted_on_both_sides(start, authority, tmp_path, scheme):
    tls, _ = authority("evener"), authority("replica")
    ca = tmp_path / "ca.crt"
    pair = tuple((tmp_path / f"replica.{kind}").read_bytes() for kind in ("key", "crt"))
    server = Server("s0", grpc.ssl_server_credentials([pair]))
    version = {"replicas": [server.url.replace("grpcs", scheme)], "tls": {"ca": str(ca)}}
    evener = start(Evener, {
        "listeners": [{"name": "public", "address": "127.0.0.1:0", "tls": tls}],
        "models": {"resnet": {"versions": {"v1": version}, "health": {"grpc": ""}}},
    })
    try:
        credentials = grpc.ssl_channel_credentials(ca.read_bytes())
        with grpc.secure_channel(evener.url.removeprefix("https://"), credentials) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answer, call = stub.ModelInfer.with_call(infer(id="7"), timeout=30)
            assert (answer.id, dict(call.trailing_metadata())["x-served-by"]) == ("7", "s0")
            stream = stub.ModelStreamInfer(iter([infer(id="1"), infer(id="2")]), timeout=30)
            assert [answer.infer_response.id for answer in stream] == ["1", "2"]
    finally:
        server.server.stop(None)


def test_a_dead_replica_is_told_as_unavailable(start, servers):
    evener = start(Evener, config(servers, retries=False, ejection=False))
    for server in servers:
        server.server.stop(None).wait()
    with grpc.insecure_channel(evener.url.removeprefix("http://")) as channel:
        with pytest.raises(grpc.RpcError) as dead:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer(), timeout=30)
    assert dead.value.code() == grpc.StatusCode.UNAVAILABLE
    metrics = httpx.get(f"{evener.admin}/metrics").text
    assert 'evener_requests_total{model="resnet",version="v1",code="grpc-14",outcome="connect_failure"} 1' in metrics


@pytest.fixture
def mocked(start):
    """Triton's client on Evener, before a mock that speaks both protocols on one port."""
    mock = start(Mock, "v7")
    url = mock.url.replace("http://", "h2c://")
    evener = start(Evener, {"models": {"m": {"versions": {"v7": [url]}, "health": {"grpc": ""}}}})
    client = triton.InferenceServerClient(evener.url.removeprefix("http://"))
    yield client, mock
    client.close()


def asked(numbers):
    tensor = triton.InferInput("x", list(numbers.shape), "FP32")
    tensor.set_data_from_numpy(numbers)
    return [tensor]


def test_triton_s_client_infers_at_the_mock(mocked):
    client, mock = mocked
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("m")
    assert client.get_server_metadata().name == "evener"
    assert client.get_model_metadata("m").platform == "evener-mock"
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = asked(numbers)
    result = client.infer("m", tensors, outputs=[triton.InferRequestedOutput("y")])
    assert (result.as_numpy("y") == numbers).all() and result.get_response().model_version == "v7"
    for algorithm in ("gzip", "deflate"):
        # Evener does not open it; there is one model only, which the mock cannot read either.
        with pytest.raises(InferenceServerException, match="uncompressed"):
            client.infer("m", asked(np.zeros((100, 100), np.float32)), compression_algorithm=algorithm)
    answers = []
    arrived = threading.Semaphore(0)
    client.start_stream(lambda result, error: (answers.append((result, error)), arrived.release()))
    for i in range(5):
        client.async_stream_infer("m", tensors, request_id=str(i))
        assert arrived.acquire(timeout=20)
    client.stop_stream()
    assert [error for _, error in answers] == [None] * 5
    assert [result.get_response().id for result, _ in answers] == list("01234")
    httpx.post(f"{mock.url}/mock", json={"error": 100}).raise_for_status()
    with pytest.raises(InferenceServerException, match="fails as it was told to") as failed:
        client.infer("m", tensors)
    assert failed.value.status() == "StatusCode.UNAVAILABLE"
