"""Keys and their limits, as the official `openai` client meets them."""

import hashlib
import re
import subprocess
import threading

import httpx
import openai
import pytest

from conftest import EVENER, Evener, Mock, wait_for

MESSAGES = [{"role": "user", "content": "Which fox jumps?"}]


def entry(name, key, **more):
    return {"name": name, "hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest(), **more}


@pytest.fixture
def evener(start):
    mock = start(Mock, "v1", "--tokens", "8")
    made = subprocess.run([EVENER, "key", "new", "mobile"], check=True, capture_output=True, text=True)
    key = made.stdout.split()[0]
    keys = [
        entry("mobile", key, models=["chat"], limits={"requests_per_minute": 3, "tokens_per_minute": 1000}),
        entry("batch", "sk-batch", limits={"tokens_per_minute": 10_000}),
    ]
    models = {name: {"versions": {"v1": [mock.url]}} for name in ("chat", "vip")}
    started = start(Evener, {"models": models, "keys": keys})
    started.key, started.mock = key, mock
    return started


def client_of(evener, key):
    return openai.OpenAI(base_url=f"{evener.url}/v1", api_key=key, max_retries=0)


def test_a_key_is_what_the_client_calls_api_key(evener):
    with client_of(evener, evener.key) as client:
        answer = client.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=8)
        assert answer.choices[0].message.content
        assert [model.id for model in client.models.list()] == ["chat"]
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.chat.completions.create(model="vip", messages=MESSAGES)
        assert caught.value.code == "model_not_allowed"
    with client_of(evener, "sk-wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="chat", messages=MESSAGES)
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")


def test_limits_are_told_in_the_headers_that_clients_read(evener):
    with client_of(evener, evener.key) as client:
        for left in (2, 1, 0):
            raw = client.chat.completions.with_raw_response.create(
                model="chat", messages=MESSAGES, max_tokens=8)
            assert raw.headers["x-ratelimit-limit-requests"] == "3"
            assert raw.headers["x-ratelimit-remaining-requests"] == str(left)
            assert raw.headers["x-ratelimit-limit-tokens"] == "1000"
            assert 900 < int(raw.headers["x-ratelimit-remaining-tokens"]) < 1000
            for kind in ("requests", "tokens"):
                assert re.fullmatch(r"\d+ms|(\d+m)?\d+s", raw.headers[f"x-ratelimit-reset-{kind}"])
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="chat", messages=MESSAGES)
        assert (caught.value.code, caught.value.status_code) == ("rate_limited", 429)
        assert 30 <= int(caught.value.response.headers["retry-after"]) <= 60
        with pytest.raises(openai.BadRequestError) as caught:
            with client_of(evener, "sk-batch") as other:
                other.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=20_000)
        assert (caught.value.code, caught.value.param) == ("exceeds_token_limit", "max_tokens")


def test_fifty_streams_at_once_take_no_more_than_the_limit(evener):
    httpx.post(f"{evener.mock.url}/mock", json={"tokens": 450, "token_interval": "1ms"})
    served, refused = [], []

    def stream(client):
        try:
            tokens = 0
            for chunk in client.chat.completions.create(
                    model="chat", messages=MESSAGES, max_tokens=450, stream=True):
                tokens += bool(chunk.choices and chunk.choices[0].delta.content)
            served.append(tokens)
        except openai.RateLimitError as error:
            assert int(error.response.headers["retry-after"]) >= 1
            refused.append(error.code)

    with client_of(evener, "sk-batch") as client:
        threads = [threading.Thread(target=stream, args=(client,)) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(served) + len(refused) == 50 and set(refused) == {"tokens_limited"}
    assert 9000 <= sum(served) <= 10_000 + 450, served
    wait_for("nothing in flight", lambda: evener.mock.knobs()["in_flight"] == 0)
