"""Streams that break, stall or say inside that there is no room: each client raises the exception that its API names."""

import queue
import threading
from concurrent import futures

import anthropic
import grpc
import httpx
import openai
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from breaking import WAYS, Breaking, Relay
from conftest import Evener, wait_for

MESSAGES = [{"role": "user", "content": "Which fox jumps?"}]
TIMEOUTS = {"between_chunks": "1s", "first_byte": "1s", "tunnel": "1s"}
OUTCOMES = {"break": "reset", "stall": "timeout", "overload": "overloaded"}


def model(url):
    return {"versions": {"v1": [url]}, "health": False, "ejection": False, "retries": False, "timeouts": TIMEOUTS}


@pytest.fixture(scope="module", params=WAYS)
def way(request):
    return request.param


@pytest.fixture(scope="module")
def evener(way, start_shared):
    server = Breaking(way)
    yield start_shared(Evener, {"models": {"m": model(server.url)}})
    server.end()


@pytest.fixture
def counted(way, evener):
    """The request of a test is counted as what became of it."""
    def times():
        text = httpx.get(f"{evener.admin}/metrics").text
        rows = [row for row in text.splitlines() if row.startswith("evener_requests_total{")]
        return sum(float(row.split()[-1]) for row in rows if f'outcome="{OUTCOMES[way]}"' in row)

    before = times()
    yield
    wait_for("the request to be counted", lambda: times() == before + 1)


@pytest.fixture
def openai_client(evener):
    with openai.OpenAI(base_url=f"{evener.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(evener):
    with anthropic.Anthropic(base_url=evener.url, api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.usefixtures("counted")
def test_openai_chat(openai_client):
    seen = []
    with pytest.raises(openai.APIError):
        for chunk in openai_client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
            seen.append(chunk.choices[0].delta.content)
    assert seen == ["one", "two"]


@pytest.mark.usefixtures("counted")
def test_openai_completions(openai_client):
    with pytest.raises(openai.APIError):
        list(openai_client.completions.create(model="m", prompt="Say", stream=True))


@pytest.mark.usefixtures("counted")
def test_openai_responses(openai_client):
    with pytest.raises(openai.APIError):
        list(openai_client.responses.create(model="m", input="Say", stream=True))


@pytest.mark.usefixtures("counted")
def test_openai_responses_by_its_helper(openai_client):
    with pytest.raises(openai.APIError):
        with openai_client.responses.stream(model="m", input="Say") as stream:
            stream.get_final_response()


@pytest.mark.usefixtures("counted")
def test_anthropic_messages(anthropic_client):
    with pytest.raises(anthropic.APIError) as caught:
        list(anthropic_client.messages.create(model="m", messages=MESSAGES, max_tokens=9, stream=True))
    assert caught.value.body["error"]["type"] in ("api_error", "timeout_error", "overloaded_error")


@pytest.mark.usefixtures("counted")
def test_anthropic_messages_by_its_helper(anthropic_client):
    with pytest.raises(anthropic.APIError):
        with anthropic_client.messages.stream(model="m", messages=MESSAGES, max_tokens=9) as stream:
            stream.get_final_message()


@pytest.mark.usefixtures("counted")
def test_triton_generate_stream(evener):
    # No client of Triton's reads it: its documentation gives the form of an error.
    with httpx.stream("POST", f"{evener.url}/v2/models/m/generate_stream", json={"text_input": "x"}) as answer:
        lines = [line for line in answer.iter_lines() if line]
    last = httpx.Response(200, content=lines[-1].removeprefix("data:")).json()
    assert isinstance(last["error"], str), lines


@pytest.mark.usefixtures("counted")
def test_tritonclient_over_http(evener):
    client = triton_http.InferenceServerClient(evener.url.removeprefix("http://"))
    wanted = triton_http.InferInput("x", [1], "FP32")
    with pytest.raises(InferenceServerException) as caught:
        client.infer("m", [wanted])
    assert "{" not in caught.value.message(), "the text of the error, not its JSON"
    client.close()


class Model(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers the first message of a stream, then does as it was told."""

    def __init__(self, way, relay):
        self.way, self.relay = way, relay
        self.done = threading.Event()

    def ModelStreamInfer(self, requests, context):
        request = next(requests)
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        yield service_pb2.ModelStreamInferResponse(infer_response=answer)
        if self.way == "overload":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        self.done.wait(30)


@pytest.fixture(scope="module")
def grpc_model(way, start_shared):
    """A server of grpcio behind a relay, and Evener in front."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    relay = Relay(server.add_insecure_port("127.0.0.1:0"))
    served = Model(way, relay)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(served, server)
    server.start()
    yield served, start_shared(Evener, {"models": {"m": model(f"h2c://127.0.0.1:{relay.port}")}})
    served.done.set()
    server.stop(None)
    relay.end()


CODES = {
    "break": grpc.StatusCode.UNAVAILABLE,
    "stall": grpc.StatusCode.DEADLINE_EXCEEDED,
    "overload": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def test_grpcio(way, grpc_model):
    served, evener = grpc_model
    with grpc.insecure_channel(evener.url.removeprefix("http://")) as channel:
        asked = queue.Queue()
        asked.put(service_pb2.ModelInferRequest(model_name="m", id="1"))
        answers = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(asked.get, None))
        assert next(answers).infer_response.id == "1"
        if way == "break":
            served.relay.cut()
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        assert caught.value.code() == CODES[way], caught.value
        asked.put(None)


def test_tritonclient_over_grpc(way, grpc_model):
    served, evener = grpc_model
    client = triton_grpc.InferenceServerClient(evener.url.removeprefix("http://"))
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("m", [triton_grpc.InferInput("x", [1], "FP32")], request_id="1")
    result, error = answers.get(timeout=30)
    assert error is None and result.get_response().id == "1"
    if way == "break":
        served.relay.cut()
    _, error = answers.get(timeout=30)
    assert isinstance(error, InferenceServerException), error
    assert error.status() == str(CODES[way]), error
    client.stop_stream()
    client.close()
