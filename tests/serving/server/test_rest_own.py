"""Our own short API, and what operators ask for."""

import re
from pathlib import Path

import pytest
import tensorflow as tf
from prometheus_client.parser import text_string_to_metric_families
from running_server import Server

from recsys.dataset import Dataset
from serving.bundle import open_bundle
from serving.recommend import recommend


@pytest.mark.parametrize(
    ("body", "user", "history", "exclude", "source"),
    [
        ({"user_id": "u3", "k": 4}, "u3", (), (), "user"),
        ({"user_id": "nobody", "k": 4, "history": ["i3", "i14"]}, "nobody", ("i3", "i14"), (), "history"),
        ({"k": 4, "exclude": ["i6", "i128"]}, "", (), ("i6", "i128"), "popularity"),
        ({"k": 4, "model": "tiny", "label": "stable"}, "", (), (), "popularity"),
        ({"k": 4, "model": "tiny", "version": 1}, "", (), (), "popularity"),
    ],
)
def test_recommendations_are_the_bundles_and_say_what_they_rest_on(
    server: Server,
    tiny_models: Path,
    body: dict[str, object],
    user: str,
    history: tuple[str, ...],
    exclude: tuple[str, ...],
    source: str,
) -> None:
    answer = server.http.post("/recommend", json=body)
    assert answer.status_code == 200
    content = answer.json()
    assert (content.pop("model"), content.pop("version"), content.pop("source")) == ("tiny", 1, source)
    expected = recommend(open_bundle(tiny_models / "tiny"), user, 4, history, exclude)
    for item in content["items"] + expected["items"]:
        item["score"] = pytest.approx(item["score"], abs=1e-5)
    assert content["items"] == expected["items"]
    assert content["num_items"] == len(expected["items"]) == 4
    assert (content["user_id"], content["known"]) == (user, expected["known"])


def test_it_chooses_within_categories_and_says_when_no_more_are_left(server: Server, tiny_dataset: Dataset) -> None:
    of_dataset = tiny_dataset.vocabulary("category")[0]
    everything = server.http.post("/recommend", json={"k": 293}).json()
    body = {"k": 293, "categories": [f"category={of_dataset}"], "leaves": 1, "reorder_factor": 1.5}
    content = server.http.post("/recommend", json=body).json()
    ids = tiny_dataset.item_features["category"]
    of_category = {
        item
        for item, number in zip(tiny_dataset.items["item"].to_pylist(), ids, strict=True)
        if number == tiny_dataset.schema.item_features[1].first_known_id
    }
    expected = [item["item_id"] for item in everything["items"] if item["item_id"] in of_category]
    assert [item["item_id"] for item in content["items"]] == expected
    assert content["num_items"] == len(expected) < 293


def test_similar_items_are_shown(server: Server) -> None:
    content = server.http.post("/similar", json={"item_id": "i3", "k": 5}).json()
    assert [item["rank"] for item in content["items"]] == [1, 2, 3, 4, 5]
    assert all(item["shown"]["title"].endswith(item["item_id"][1:]) for item in content["items"])
    assert "i3" not in [item["item_id"] for item in content["items"]]
    all_others = server.http.post("/similar", json={"item_id": "i3", "k": 293}).json()
    assert (content["num_items"], all_others["num_items"], len(all_others["items"])) == (5, 292, 292)
    unknown = server.http.post("/similar", json={"item_id": "nothing"}).json()
    assert unknown == {"model": "tiny", "version": 1, "item_id": "nothing", "num_items": 0, "items": []}


def test_recommendations_are_explained_by_what_the_user_took(server: Server, tiny_models: Path) -> None:
    explain = open_bundle(tiny_models / "tiny").model.signatures["explain"]
    for who in ({"user_id": "u3"}, {"history": ["i3", "i14", "i15"]}):
        items = [item["item_id"] for item in server.http.post("/recommend", json=who | {"k": 5}).json()["items"]]
        content = server.http.post("/explain", json=who | {"item_ids": [*items, "nothing"], "k": 2}).json()
        assert (content["model"], content["version"], content["user_id"]) == ("tiny", 1, who.get("user_id", ""))
        assert [item["item_id"] for item in content["items"]] == [*items, "nothing"]
        assert content["items"].pop()["because"] == []
        rows = len(items)
        expected = explain(
            user_id=tf.repeat(str(who.get("user_id", "")), rows),
            history=tf.constant([who.get("history", [])] * rows, tf.string, (rows, len(who.get("history", [])))),
            item_id=tf.constant(items),
            k=tf.constant(2),
        )
        reasons = [[reason["item_id"].encode() for reason in item["because"]] for item in content["items"]]
        assert reasons == expected["item_ids"].numpy().tolist()
        assert all(reason["shown"]["title"] for item in content["items"] for reason in item["because"])
    nobody = server.http.post("/explain", json={"item_ids": ["i3"]}).json()
    assert nobody["items"] == [{"item_id": "i3", "because": []}]


def test_items_are_found_by_what_is_shown(server: Server, tiny_models: Path) -> None:
    shown = open_bundle(tiny_models / "tiny").shown
    found = server.http.get("/items", params={"query": "LONELY", "limit": 3}).json()["items"]
    assert [item["item_id"] for item in found] == [
        item for item, fields in shown.items() if "Lonely" in fields["title"]
    ][:3]
    assert server.http.get("/items", params={"query": "no such title"}).json() == {"items": []}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/recommend", {"k": 0}, "k: input should be greater than or equal to 1"),
        ("/recommend", {"k": 294}, "k = 294: expected 1 … 293"),
        ("/recommend", {"k": "many"}, "k: input should be a valid integer, unable to parse string as an integer"),
        ("/recommend", {"users": "u1"}, "users: extra inputs are not permitted"),
        ("/recommend", {"history": "i1"}, "history: input should be a valid array"),
        ("/recommend", {"version": 1, "label": "stable"}, "expected at most one of version and label"),
        ("/recommend", {"exclude": ["i"] * 1001}, "exclude has 1001 elements: expected at most 1000"),
        ("/recommend", {"user_id": "ü" * 129}, "user_id has a string of 258 bytes: expected at most 256"),
        ("/similar", {}, "item_id: field required"),
        (
            "/explain",
            {"item_ids": []},
            "item_ids: list should have at least 1 item after validation, not 0",
        ),
        ("/explain", {"item_ids": ["i"] * 1025}, "a batch of 1025: expected 1 … 1024 rows"),
        ("/explain", {"item_ids": ["i"], "history": ["i"] * 1001}, "history has 1001 elements: expected at most 1000"),
        # Under 1 MiB as JSON, 231 GB as arrays.
        (
            "/explain",
            {"item_ids": [""] * 170_000, "history": [""] * 170_000},
            "a batch of 170000: expected 1 … 1024 rows",
        ),
        ("/explain", {"item_ids": ["i1"], "k": 294}, "k = 294: expected 1 … 293"),
    ],
)
def test_what_cannot_be_answered_is_400_and_says_why(
    server: Server, path: str, body: dict[str, object], message: str
) -> None:
    answer = server.http.post(path, json=body)
    assert (answer.status_code, answer.json()) == (400, {"error": message})


def test_a_body_that_is_too_large_is_413_whether_or_not_it_tells_its_length(server: Server) -> None:
    large = b" " * (1 << 20) + b"{}"
    for content in (large, iter([large[: 1 << 19]] * 3)):
        answer = server.http.post("/recommend", content=content, headers={"content-type": "application/json"})
        expected = {"error": "the body is too large: expected at most 1048576 bytes"}
        assert (answer.status_code, answer.json()) == (413, expected)
        assert answer.headers["content-type"] == "application/json"


def test_a_request_id_is_echoed_or_made_and_logged(server: Server) -> None:
    given = server.http.get("/models", headers={"x-request-id": "mine-7"})
    assert given.headers["x-request-id"] == "mine-7"
    for bad in ({"x-request-id": "two words"}, {"x-request-id": "x" * 129}, {}):
        made = server.http.get("/models", headers=bad).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{32}", made)
    line = server.line_of("mine-7")
    assert (line["method"], line["path"], line["status"], line["level"]) == ("GET", "/models", 200, "INFO")
    assert line["ms"] > 0


def test_an_unknown_path_is_404_in_json(server: Server) -> None:
    for path in ("/../etc/passwd", "/docs-assets/../../openapi.py", "/recommend/", "/v1", "/v2/"):
        answer = server.http.post(path)
        assert (path, answer.status_code, answer.json()) == (path, 404, {"error": "Not Found"})


def test_health_and_overview(server: Server) -> None:
    assert server.http.get("/healthz").json() == {"status": "ok"}
    assert server.http.get("/readyz").json() == {"ready": True}
    [model] = server.http.get("/models").json()["models"]
    assert (model["name"], model["stable"], model["canary"]) == ("tiny", 1, None)
    assert (model["num_candidates"], model["index_recall"]) == (293, 1.0)


def batch_rows(server: Server) -> tuple[float, float]:
    """The rows of all calls, and the number of calls."""
    families = {family.name: family for family in text_string_to_metric_families(server.http.get("/metrics").text)}
    samples = {sample.name: sample.value for sample in families["recsys_batch_rows"].samples}
    return samples["recsys_batch_rows_sum"], samples["recsys_batch_rows_count"]


@pytest.mark.parametrize("path", ["/metrics", "/monitoring/prometheus/metrics"])
def test_metrics_count_requests_batches_versions_and_recall(server: Server, path: str) -> None:
    before = batch_rows(server)
    server.http.post("/v1/models/tiny:predict", json={"instances": ["u1"] * 3})
    assert batch_rows(server) == (before[0] + 3, before[1] + 1)
    server.http.post("/v1/models/made-up:predict", json={"instances": ["u1"]})
    server.http.post("/recommend", json={"user_id": "u1"})
    server.http.request("PROPFIND", "/v1/models/tiny")
    families = {family.name: family for family in text_string_to_metric_families(server.http.get(path).text)}
    requests = {
        (sample.labels["method"], sample.labels["model"], sample.labels["status"]): sample.value
        for sample in families["recsys_requests"].samples
        if sample.name == "recsys_requests_total"
    }
    route = "POST /v1/models/{model:name}:predict"
    assert requests[route, "tiny", "200"] >= 1
    assert requests[route, "", "404"] >= 1
    assert requests["POST /recommend", "tiny", "200"] >= 1
    assert requests["other", "", "400"] >= 1
    assert {model for _, model, _ in requests} == {"tiny", ""}
    assert not any(method.startswith("PROPFIND") for method, _, _ in requests)
    values = {name: [(sample.labels, sample.value) for sample in families[name].samples] for name in families}
    assert values["recsys_model_version"] == [
        ({"model": "tiny", "label": "stable"}, 1.0),
        ({"model": "tiny", "label": "canary"}, 0.0),
    ]
    assert values["recsys_index_recall"] == [({"model": "tiny", "version": "1"}, 1.0)]
    assert values["recsys_model_loads"][0] == ({"model": "tiny", "outcome": "loaded"}, 1.0)
    seconds = {(labels["method"], labels.get("le")): value for labels, value in values["recsys_request_seconds"]}
    assert seconds[route, "+Inf"] == requests[route, "tiny", "200"] + requests[route, "", "404"] + sum(
        count for key, count in requests.items() if key[0] == route and key[2] not in ("200", "404")
    )


def test_the_documentation_loads_nothing_from_elsewhere(server: Server) -> None:
    page = server.http.get("/docs").text
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    for path in re.findall(r"""(?:src|href)=["'](/[^"']+)""", page):
        assert server.http.get(path).status_code == 200, path
    paths = server.http.get("/openapi.json").json()["paths"]
    assert {"/recommend", "/similar", "/v1/models/{model}:predict", "/v2/models/{model}/infer"} <= set(paths)


def test_admin_verbs_are_refused_without_tokens(server: Server) -> None:
    for path in ("/admin/reload", "/admin/models/tiny/rollback", "/admin/models/tiny/promote"):
        answer = server.http.post(path)
        expected = {"error": "the server has no admin tokens: start it with security.tokens"}
        assert (answer.status_code, answer.json()) == (403, expected)
