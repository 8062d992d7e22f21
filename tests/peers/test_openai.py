"""The official `openai` client against two mocks behind Evener."""

import asyncio
import time
from collections import Counter

import httpx
import openai
import pytest

from conftest import BLOCK, Evener, Mock, wait_for

MESSAGES = [{"role": "user", "content": "Which fox jumps?"}]


@pytest.fixture
def mocks(start):
    return start(Mock, "v1", "--tokens", "8"), start(Mock, "v2", "--tokens", "8")


@pytest.fixture
def evener(start, mocks):
    v1, v2 = mocks
    versions = {"v1": [v1.url], "v2": {"replicas": [v2.url], "upstream_model": "org/Chat-2"}}
    chat = {"versions": versions, "split": {"v1": 50, "v2": 50}, "aliases": ["gpt-4o-mini"]}
    return start(Evener, {"models": {"chat": chat, "embed": {"versions": {"v1": [v1.url]}}}})


@pytest.fixture
def client(evener):
    with openai.OpenAI(base_url=f"{evener.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_chat_is_answered_by_both_versions(client):
    seen = Counter()
    for _ in range(BLOCK):
        answer = client.chat.completions.create(model="chat", messages=MESSAGES)
        assert answer.choices[0].message.content == "the quick brown fox jumps over a dog"
        assert answer.usage.completion_tokens == 8
        # The mock echoes the model that it was asked for.
        assert answer.model == {"v1": "chat", "v2": "org/Chat-2"}[answer.system_fingerprint]
        seen[answer.system_fingerprint] += 1
    assert abs(seen["v1"] - BLOCK / 2) <= 1, seen


def test_answers_give_the_name_that_the_client_used(start, mocks):
    v2 = {"replicas": [mocks[1].url], "upstream_model": "org/Chat-2"}
    chat = {"versions": {"v2": v2}, "aliases": ["gpt-4o-mini"], "answers": "client"}
    evener = start(Evener, {"models": {"chat": chat}})
    with openai.OpenAI(base_url=f"{evener.url}/v1", api_key="none", max_retries=0) as client:
        for name in ("chat", "gpt-4o-mini"):
            answer = client.chat.completions.create(model=name, messages=MESSAGES)
            assert (answer.model, answer.system_fingerprint) == (name, "v2")
            stream = client.chat.completions.create(model=name, messages=MESSAGES, stream=True)
            chunks = list(stream)
            assert {chunk.model for chunk in chunks} == {name}
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            vectors = client.embeddings.create(model=name, input=["a", "b"])
            assert vectors.model == name and len(vectors.data) == 2


def test_an_alias_and_completions_are_answered(client):
    assert client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES).choices
    answer = client.completions.create(model="chat", prompt="Say", max_tokens=3)
    assert answer.choices[0].text == "the quick brown"


def test_tokens_of_a_stream_arrive_one_by_one(client, mocks):
    for mock in mocks:
        httpx.post(f"{mock.url}/mock", json={"token_interval": "100ms"})
    texts, times = [], []
    stream = client.chat.completions.create(
        model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True})
    usage = None
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            texts.append(chunk.choices[0].delta.content)
            times.append(time.monotonic())
        usage = chunk.usage or usage
    assert "".join(texts) == "the quick brown fox jumps over a dog"
    assert usage.completion_tokens == 8
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    # Held back, they would come together: no gap at all. A busy machine may delay some.
    assert sorted(gaps)[len(gaps) // 2] > 0.05, gaps
    assert times[-1] - times[0] > 0.5, gaps


def test_embeddings_are_answered(client):
    answer = client.embeddings.create(model="embed", input=["one", "three"], encoding_format="float")
    assert [item.index for item in answer.data] == [0, 1]
    assert len(answer.data[0].embedding) == 4


def test_models_and_aliases_are_listed(client):
    listed = {model.id for model in client.models.list()}
    assert {"chat", "embed", "gpt-4o-mini"} == listed


def test_an_unknown_model_is_not_found_and_the_nearest_is_named(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="chatt", messages=MESSAGES)
    assert "chat" in caught.value.message.replace("chatt", "")
    assert (caught.value.status_code, caught.value.code) == (404, "model_not_found")
    assert caught.value.request_id


def test_a_client_that_leaves_a_stream_frees_the_replica(client, mocks):
    for mock in mocks:
        httpx.post(f"{mock.url}/mock", json={"token_interval": "50ms", "tokens": 2000})
    for _ in range(4):
        stream = client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        next(iter(stream))
        assert sum(mock.knobs()["in_flight"] for mock in mocks) == 1
        stream.close()
        wait_for("the mocks to be free", lambda: all(m.knobs()["in_flight"] == 0 for m in mocks), 10)


def test_a_stream_that_breaks_raises_an_error(client, mocks):
    for mock in mocks:
        httpx.post(f"{mock.url}/mock", json={"cut": "100%"})
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        for _ in client.chat.completions.create(model="chat", messages=MESSAGES, stream=True):
            pass


def test_fifty_clients_at_once_are_served(evener, mocks):
    for mock in mocks:
        httpx.post(f"{mock.url}/mock", json={"latency": "50ms"})

    async def ask(client, i):
        if i % 2:
            answer = await client.chat.completions.create(model="chat", messages=MESSAGES)
            return answer.choices[0].message.content
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    async def all_at_once():
        base = f"{evener.url}/v1"
        async with openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, i) for i in range(50)))

    answers = asyncio.run(all_at_once())
    assert answers == ["the quick brown fox jumps over a dog"] * 50
    assert sum(mock.knobs()["requests_total"] for mock in mocks) == 50
