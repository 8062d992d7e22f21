"""Two versions of a scikit-learn model, each served by a real MLServer, behind Evener."""

import json
from collections import Counter

import httpx
import joblib
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from conftest import BLOCK, PEERS, Evener, Program, free_ports, wait_for

FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.9, 3.1, 5.4, 2.1]]


class MLServer(Program):
    """`mlserver start` with one model. Version v1 is known upstream as `iris`, v2 as `iris-knn`."""

    def __init__(self, folder, model, name, version):
        joblib.dump(model, folder / "model.joblib")
        http, grpc, metrics = free_ports(3)
        (folder / "settings.json").write_text(json.dumps({
            "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics,
            "parallel_workers": 0, "debug": False,
        }))
        (folder / "model-settings.json").write_text(json.dumps({
            "name": name, "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": "./model.joblib", "version": version},
        }))
        super().__init__(f"mlserver-{version}", folder, [PEERS / "mlserver", "start", "."])
        self.model = name
        self.url = f"http://127.0.0.1:{http}"
        self.grpc_url = f"grpc://127.0.0.1:{grpc}"

    def wait_until_ready(self):
        def ready():
            code = self.process.poll()
            assert code is None, f"mlserver ended with {code}:\n{self.text()}"
            return httpx.get(f"{self.url}/v2/models/{self.model}/ready").status_code == 200
        wait_for(f"{self.name} to be ready", ready, 120)


def body(rows=FLOWERS):
    flat = [value for row in rows for value in row]
    flowers = {"name": "flowers", "shape": [len(rows), 4], "datatype": "FP64", "data": flat}
    return {"id": "42", "inputs": [flowers], "outputs": [{"name": "predict_proba"}]}


def without_names(answer):
    """An answer less what differs by the name of the model."""
    return {key: value for key, value in answer.items() if key != "model_name"}


def config(v1, v2):
    health = {"path": "/v2/health/ready", "every": "500ms", "timeout": "400ms", "fall": 2, "rise": 1}
    return {"models": {"iris": {
        "versions": {
            "v1": [v1.url],
            "v2": {"replicas": [v2.url], "upstream_model": "iris-knn"},
        },
        "split": {"v1": 80, "v2": 20},
        "health": health,
    }}}


@pytest.fixture(scope="module")
def trained():
    x, y = load_iris(return_X_y=True)
    return (
        LogisticRegression(solver="lbfgs", C=1.0, max_iter=1000).fit(x, y),
        KNeighborsClassifier(n_neighbors=7).fit(x, y),
    )


@pytest.fixture(scope="module")
def servers(start_shared, trained):
    v1 = start_shared(MLServer, trained[0], "iris", "v1")
    v2 = start_shared(MLServer, trained[1], "iris-knn", "v2")
    v1.wait_until_ready()
    v2.wait_until_ready()
    return v1, v2


@pytest.fixture
def evener(start, servers):
    return start(Evener, config(*servers))


def replica_state(evener, version):
    """1 when the only replica of the version is healthy, by the metrics."""
    text = httpx.get(f"{evener.admin}/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("evener_replica_state{")]
    mine = [line for line in lines if f'version="{version}"' in line and 'state="healthy"' in line]
    return bool(mine) and mine[0].endswith(" 1")


def test_an_answer_is_what_mlserver_itself_answers(evener, servers):
    direct = {}
    for server, version in zip(servers, ("v1", "v2")):
        answer = httpx.post(f"{server.url}/v2/models/{server.model}/infer", json=body())
        assert answer.status_code == 200, answer.text
        direct[version] = answer.json()
    assert direct["v1"]["outputs"] != direct["v2"]["outputs"], "the versions must differ to be told apart"
    seen = Counter()
    with httpx.Client(base_url=evener.url) as client:
        for _ in range(BLOCK):
            answer = client.post("/v2/models/iris/infer", json=body())
            assert answer.status_code == 200, answer.text
            version = answer.headers["x-evener-version"]
            assert without_names(answer.json()) == without_names(direct[version])
            seen[version] += 1
    assert set(seen) == {"v1", "v2"}


def test_a_split_of_80_to_20_is_kept_within_10_of_200(evener, trained):
    rows = [[float(v) for v in row] for row in load_iris().data[:3]]
    with httpx.Client(base_url=evener.url) as client:
        answers = [client.post("/v2/models/iris/infer", json=body(rows)) for _ in range(200)]
    assert {answer.status_code for answer in answers} == {200}
    # By the answers themselves, not by what Evener says of them.
    seen = Counter(answer.json()["model_version"] for answer in answers)
    assert abs(seen["v2"] - 40) <= 10, seen
    expected = {"v1": trained[0], "v2": trained[1]}
    for answer in answers:
        output = answer.json()["outputs"][0]
        want = expected[answer.json()["model_version"]].predict_proba(np.array(rows))
        assert np.allclose(np.array(output["data"]).reshape(output["shape"]), want)


def test_metadata_and_readiness_are_answered(evener):
    with httpx.Client(base_url=evener.url) as client:
        names = set()
        for _ in range(BLOCK):
            metadata = client.get("/v2/models/iris")
            assert metadata.status_code == 200, metadata.text
            assert metadata.json()["versions"] == []
            names.add(metadata.json()["name"])
        assert names == {"iris", "iris-knn"}
        assert client.get("/v2/models/iris/ready").status_code == 200
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        listed = client.get("/v1/models").json()
        assert [model["id"] for model in listed["data"]] == ["iris"]


def test_an_unknown_model_is_told_as_kserve_does(evener, servers):
    direct = httpx.post(f"{servers[0].url}/v2/models/irsi/infer", json=body())
    answer = httpx.post(f"{evener.url}/v2/models/irsi/infer", json=body())
    assert (answer.status_code, direct.status_code) == (404, 404)
    assert answer.json().keys() == direct.json().keys() == {"error"}
    assert "iris" in answer.json()["error"]
    assert answer.headers["x-evener-error"] == "model_not_found"


def test_an_error_of_mlserver_passes_unchanged(evener, servers):
    wrong = {"inputs": [{"name": "flowers", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}]}
    with httpx.Client(base_url=evener.url) as client:
        answer = client.post("/v2/models/iris/infer", json=wrong)
    server = servers[0] if answer.headers["x-evener-version"] == "v1" else servers[1]
    direct = httpx.post(f"{server.url}/v2/models/{server.model}/infer", json=wrong)
    assert (answer.status_code, answer.text) == (direct.status_code, direct.text)
    assert answer.status_code >= 400


def test_triton_s_client_infers(evener, trained):
    client = triton.InferenceServerClient(evener.url.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("iris")
    rows = np.array(FLOWERS)
    flowers = triton.InferInput("flowers", list(rows.shape), "FP64")
    # MLServer does not read the binary extension of Triton's.
    flowers.set_data_from_numpy(rows, binary_data=False)
    wanted = [triton.InferRequestedOutput("predict_proba", binary_data=False)]
    for _ in range(5):
        result = client.infer("iris", [flowers], outputs=wanted)
        version = result.get_response()["model_version"]
        want = {"v1": trained[0], "v2": trained[1]}[version].predict_proba(rows)
        assert np.allclose(result.as_numpy("predict_proba"), want)
    with pytest.raises(triton.InferenceServerException, match="iris"):
        client.infer("irsi", [flowers])


def test_triton_s_clients_infer_over_http_and_grpc_on_one_port(start, servers, trained):
    v1, v2 = servers
    both = config(v1, v2)
    model = both["models"]["iris"]
    model["versions"]["v1"] = [v1.url, v1.grpc_url]
    model["versions"]["v2"]["replicas"] = [v2.url, v2.grpc_url]
    # Its gRPC port has no standard health service: it is asked as KServe has it.
    model["health"]["grpc"] = ""
    evener = start(Evener, both)
    address = evener.url.removeprefix("http://")
    rows = np.array(FLOWERS)
    for module in (triton, triton_grpc):
        client = module.InferenceServerClient(address)
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("iris")
        flowers = module.InferInput("flowers", list(rows.shape), "FP64")
        wanted = [module.InferRequestedOutput("predict_proba")]
        if module is triton:
            flowers.set_data_from_numpy(rows, binary_data=False)
            wanted = [module.InferRequestedOutput("predict_proba", binary_data=False)]
        else:
            flowers.set_data_from_numpy(rows)
        seen = Counter()
        for _ in range(BLOCK):
            result = client.infer("iris", [flowers], outputs=wanted)
            answer = result.get_response()
            version = answer["model_version"] if module is triton else answer.model_version
            want = {"v1": trained[0], "v2": trained[1]}[version].predict_proba(rows)
            assert np.allclose(result.as_numpy("predict_proba"), want)
            seen[version] += 1
        assert set(seen) == {"v1", "v2"}
        with pytest.raises(triton.InferenceServerException, match="iris") as unknown:
            client.infer("irsi", [flowers])
        if module is triton_grpc:
            assert unknown.value.status() == "StatusCode.NOT_FOUND"
        client.close()
    text = httpx.get(f"{evener.admin}/metrics").text
    assert text.count(',state="healthy"} 1') == 4, "each port is probed in its own words"


def test_a_broken_file_changes_nothing(evener):
    # Evener's log grows in the file's directory: that must not hide the changes of the file.
    good = evener.config.read_text()
    with httpx.Client(base_url=evener.url) as client:
        evener.write(good.replace('"v1": 80', '"v1": 70'))
        evener.wait_for_line("split-sum|sum to 100|100 %")
        for _ in range(20):
            assert client.post("/v2/models/iris/infer", json=body()).status_code == 200
        evener.write("models: [")
        evener.wait_for_line("yaml")
        assert client.post("/v2/models/iris/infer", json=body()).status_code == 200
        # And one that is good is taken.
        evener.write(good.replace('"v1": 80', '"v1": 0').replace('"v2": 20', '"v2": 100'))

        def all_to_v2():
            answers = [client.post("/v2/models/iris/infer", json=body()) for _ in range(10)]
            assert {answer.status_code for answer in answers} == {200}
            return {answer.json()["model_version"] for answer in answers} == {"v2"}
        wait_for("the new split", all_to_v2)


def test_a_version_that_is_killed_is_served_by_the_other(start, servers, trained):
    v1 = servers[0]
    v2 = start(MLServer, trained[1], "iris-knn", "v2")
    v2.wait_until_ready()
    evener = start(Evener, config(v1, v2))
    with httpx.Client(base_url=evener.url, timeout=30) as client:
        wait_for("both versions", lambda: client.post(
            "/v2/models/iris/infer", json=body()).json()["model_version"] == "v2")
        wait_for("a healthy v2", lambda: replica_state(evener, "v2"))
        v2.kill()
        # Nobody waits for a health check: what cannot connect is asked again elsewhere.
        answers = [client.post("/v2/models/iris/infer", json=body()) for _ in range(100)]
        assert Counter(answer.status_code for answer in answers) == {200: 100}
        assert {answer.json()["model_version"] for answer in answers} == {"v1"}
