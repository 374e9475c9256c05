"""`recsys bench serving`: latency over the SavedModel called in this process, and throughput of many clients.

`rest_p50_overhead` and `grpc_p50_overhead` are how many times as long as the call in this process a single client
waits, by medians. `batching_throughput` is the requests per second of 32 clients as a multiple of those of the same
server with a call of the graph for each request. `litserve_throughput`, where LitServe is installed (`recsys[bench]`),
is the same as a multiple of its, with the same SavedModel and its own batching. Every request asks for the 10 best
items of one user.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from rich.table import Table
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from data_prep.pipeline import prepare
from data_prep.schema_files import load_data_config
from experiments.benchmarks.harness import Report, pairs_table, time_pairs
from experiments.benchmarks.http_load import Post, free_ports, latencies, running, send_all
from recsys.config import ExperimentConfig, RuntimeConfig
from recsys.dataset import open_dataset
from recsys.run import open_run
from recsys.training import train
from serving.bundle import open_bundle
from serving.export import export

CLIENTS = 32
K = 10
_MODEL, _USER = "bench", "u1"
_SOURCE = "synthetic:users=1000,items=5000,interactions=50000"
_BATCH = 64
_READY = "/readyz"

# Sends so many requests one after another; returns the seconds of each.
_Way = Callable[[int], list[float]]


def measure(source: str = _SOURCE, requests: int = 3200, calls: int = 200, repeats: int = 5) -> Report:
    """Trains, exports, starts the servers side by side, and measures them in turn."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        models = _published(Path(folder), source)
        rest, rpc, alone, alone_rpc, lit = free_ports(5)
        for ports, settings in (
            ((rest, rpc), (f"batching.max_batch_size={_BATCH}",)),
            ((alone, alone_rpc), ("batching.max_batch_size=1", f"batching.max_enqueued_batches={2 * CLIENTS}")),
        ):
            servers.enter_context(
                running(_our_command(models, *ports, *settings), f"http://127.0.0.1:{ports[0]}{_READY}")
            )
        ask = {"user_id": _USER, "k": K}
        peers = {"batching_throughput": Post(alone, "/recommend", ask)}
        if find_spec("litserve") is not None:
            servers.enter_context(running(_litserve_command(models, lit), f"http://127.0.0.1:{lit}/health"))
            peers["litserve_throughput"] = Post(lit, "/predict", ask)
        ours = Post(rest, "/recommend", ask)
        channel = servers.enter_context(grpc.insecure_channel(f"127.0.0.1:{rpc}"))
        ways = {"rest": lambda count: latencies(ours, count), "grpc": _grpc_calls(channel)}
        overheads, latency_table = _overheads(_in_process(models), ways, calls, repeats)
        pairs = time_pairs(
            partial(send_all, ours, requests, CLIENTS),
            {name: partial(send_all, post, requests, CLIENTS) for name, post in peers.items()},
            repeats,
        )
    title = f"{CLIENTS} clients, {requests:,} requests a run, {repeats} pairs, k = {K}"
    return Report(
        overheads | {name: pair.ratio for name, pair in pairs.items()},
        [latency_table, pairs_table(title, "requests", pairs)],
        headline="batching_throughput",
    )


def _published(folder: Path, source: str) -> Path:
    prepare(source, load_data_config(None, source), folder / "data")
    config = ExperimentConfig.model_validate({"train": {"epochs": 1}})
    train(config, RuntimeConfig(), open_dataset(folder / "data"), folder / "run")
    export(open_run(folder / "run"), folder / "models", _MODEL)
    return folder / "models"


def _our_command(models: Path, rest_port: int, grpc_port: int, *settings: str) -> list[str]:
    ports = (f"network.rest_port={rest_port}", f"network.grpc_port={grpc_port}")
    options = [part for setting in (*ports, *settings) for part in ("--set", setting)]
    return [sys.executable, "-m", "recsys.cli", "serve", str(models), *options]


def _litserve_command(models: Path, port: int) -> list[str]:
    module = "experiments.benchmarks.peers.litserve_server"
    return [sys.executable, "-m", module, str(models / _MODEL / "1"), str(port), str(_BATCH)]


def _in_process(models: Path) -> _Way:
    signature = open_bundle(models / _MODEL).model.signatures["recommend"]

    def call() -> Any:
        nothing = tf.fill([1, 0], "")
        answer = signature(user_id=tf.constant([_USER]), history=nothing, exclude=nothing, k=tf.constant(K))
        return {name: value.numpy() for name, value in answer.items()}

    return lambda count: [_timed(call) for _ in range(count)]


def _grpc_calls(channel: grpc.Channel) -> _Way:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = _MODEL, "recommend"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto([_USER]))
    for name in ("history", "exclude"):
        request.inputs[name].CopyFrom(tf.make_tensor_proto([], tf.string, (1, 0)))
    request.inputs["k"].CopyFrom(tf.make_tensor_proto(K, tf.int32))

    def call() -> Any:
        return {name: tf.make_ndarray(value) for name, value in stub.Predict(request, timeout=30).outputs.items()}

    return lambda count: [_timed(call) for _ in range(count)]


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _overheads(in_process: _Way, ways: dict[str, _Way], calls: int, repeats: int) -> tuple[dict[str, float], Table]:
    """Times every way in each repeat; returns the median ratio of medians per way, and the table."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in ("in process", *ways)}
    for repeat in range(repeats + 1):
        for name, way in {"in process": in_process, **ways}.items():
            taken = way(calls)
            if repeat:  # the first is the warm-up
                seconds[name].append(taken)
    p50 = {name: [statistics.median(run) for run in runs] for name, runs in seconds.items()}
    ratios = {
        f"{name}_p50_overhead": statistics.median(
            theirs / ours for theirs, ours in zip(p50[name], p50["in process"], strict=True)
        )
        for name in ways
    }
    table = Table(title=f"one client, {repeats} times {calls} calls", title_justify="left", box=None)
    for heading in ("way", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right" if heading != "way" else "left")
    for name, runs in seconds.items():
        table.add_row(name, f"{statistics.median(p50[name]) * 1e3:.2f}", f"{_p99(runs) * 1e3:.2f}")
    return ratios, table


def _p99(runs: Sequence[Sequence[float]]) -> float:
    return statistics.median(sorted(run)[int(0.99 * len(run))] for run in runs)
