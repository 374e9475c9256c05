"""The `recsys` command. Each verb parses its arguments, calls one function, prints.

Results go to stdout, progress to stderr. A mistake gives one line and exit code 2. The modules behind a verb are
imported when it runs, so that `recsys --help` needs no TensorFlow.
"""

import json
import logging
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import typer.core

from recsys.artifacts import no_room
from recsys.errors import ConfigError, RecsysError

if TYPE_CHECKING:
    from recsys.schema import Manifest

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""
Recommendations by two towers and a ScaNN index: prepare data, train, evaluate, export, recommend.
""",
)

# Typer exports only this subclass of what its parser raises.
_USAGE_ERROR: Any = typer.BadParameter.__base__

_DatasetOption = Annotated[
    Path | None, typer.Option("--dataset", help="Where the dataset is now, when it was moved after training.")
]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="The folder to make; a former quickstart there is replaced.")] = Path(
        "quickstart"
    ),
) -> None:
    """Runs the whole job on synthetic data in about a minute: prepare, train, evaluate, export, recommend.

    Example: recsys quickstart
    """
    from experiments.quickstart import run_quickstart

    run_quickstart(out)


@app.command()
def doctor() -> None:
    """Checks that the installed packages fit together, and names what does not.

    Example: recsys doctor
    """
    from recsys.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'BAD '} {finding.subject} {finding.text}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


class _PrepareCommand(typer.core.TyperCommand):
    """Leaves options that it does not know to Beam, when Beam is the engine."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Only Beam knows what is an option of its runners."""
        with_beam = "--engine=beam" in args or ("--engine", "beam") in pairwise(args)
        ctx.allow_extra_args = ctx.ignore_unknown_options = with_beam
        return super().parse_args(ctx, args)


@app.command(cls=_PrepareCommand)
def prepare(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="A .csv, .tsv, .jsonl (or .gz of them) or .parquet file, a folder or quoted glob of such files, "
            "tfds:NAME, or synthetic:key=value,…"
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The dataset directory to make.")] = None,
    schema: Annotated[
        Path | None, typer.Option(help="A data.toml that says which column is what, or a shipped one's name: gowalla.")
    ] = None,
    infer: Annotated[bool, typer.Option("--infer", help="Only print a first draft of a data.toml for SOURCE.")] = False,
    extend: Annotated[
        Path | None, typer.Option(help="A former dataset, whose ids keep their meaning; new values are appended.")
    ] = None,
    tfds_manual_dir: Annotated[
        Path | None, typer.Option(help="A folder with the archives that TFDS would download.")
    ] = None,
    no_validation: Annotated[
        bool,
        typer.Option("--no-validation", help="Let what would validate train: for a last run, when all is chosen."),
    ] = False,
    max_bad_fraction: Annotated[float, typer.Option(help="Fail when more than this share of rows is bad.")] = 0.01,
    engine: Annotated[
        Literal["single", "beam"],
        typer.Option(
            help="This machine alone, or Apache Beam, which takes all further options: the dataset is the same."
        ),
    ] = "single",
) -> None:
    """Turns raw interactions into a dataset: vocabularies, a split, shards, and a report to look at.

    Example: recsys prepare tfds:movielens/latest-small-ratings --out data/ml-small

    Example: recsys prepare rows.parquet --out data/mine --engine beam --runner=DirectRunner --direct_num_workers=2
    --direct_running_mode=multi_processing
    """
    from data_prep.schema_files import load_data_config
    from recsys.artifacts import refuse_existing

    if infer:
        from data_prep.infer import infer_data_toml

        print(infer_data_toml(source, tfds_manual_dir), end="")
        return
    if out is None:
        raise ConfigError("--out is missing: expected the dataset directory to make, for example --out data/mine")
    if not 0 <= max_bad_fraction <= 1:
        raise ConfigError(f"--max-bad-fraction {max_bad_fraction}: expected a share between 0 and 1")
    refuse_existing(out)
    config = load_data_config(schema, source)
    if no_validation:
        config = config.without_validation()
    from experiments.tables import print_dataset, stdout

    run = _with_beam(context.args) if engine == "beam" else _on_one_machine()
    print_dataset(stdout(), run(source, config, out, tfds_manual_dir, max_bad_fraction, extend))
    print(f"{out / 'report.html'} shows it")


def _on_one_machine() -> Callable[..., "Manifest"]:
    from data_prep.pipeline import prepare as run

    return run


def _with_beam(options: list[str]) -> Callable[..., "Manifest"]:
    from data_prep.beam import require_beam

    require_beam()
    from data_prep.beam.pipeline import prepare_with_beam

    return partial(prepare_with_beam, beam_options=options)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="What to learn, for example experiments/configs/movielens.toml.")],
    dataset: Annotated[Path, typer.Option(help="A directory made by `recsys prepare`.")],
    out: Annotated[Path, typer.Option(help="The run directory to make.")],
    runtime: Annotated[
        Path | None, typer.Option(help="Where to run, for example experiments/runtimes/mirrored.toml.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a key: train.batch_size=4096.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with --out after its last epoch, if it was begun and not finished.")
    ] = False,
) -> None:
    """Trains the two towers and keeps the epoch that validates best.

    Example: recsys train experiments/configs/movielens.toml --dataset data/ml-small --out runs/ml-small
    """
    from recsys.artifacts import refuse_existing
    from recsys.config import ExperimentConfig, RuntimeConfig
    from recsys.dataset import open_dataset
    from recsys.toml_config import load_toml

    experiment = load_toml(ExperimentConfig, config, tuple(set_ or ()))
    where = RuntimeConfig() if runtime is None else load_toml(RuntimeConfig, runtime)
    if not resume:
        refuse_existing(out)
    opened = open_dataset(dataset)
    from recsys.training import train as run

    run(experiment, where, opened, out, resume)
    print(out)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A directory made by `recsys train`.")],
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    k: Annotated[str, typer.Option("--k", help="Depths, for example 10,20.")] = "10,20",
    slice_by: Annotated[
        list[str] | None,
        typer.Option(help="Also show parts by this categorical feature of users or items; may be repeated."),
    ] = None,
    as_json: _JsonOption = False,
    dataset: _DatasetOption = None,
) -> None:
    """Ranks the whole catalogue for every held-out query, beside popularity, item-kNN, EASE^R and chance.

    Example: recsys evaluate runs/ml-small --split test --k 10,20 --json

    Example: recsys evaluate runs/ml-small --slice-by genres
    """
    if split not in ("validation", "test"):
        raise ConfigError(f"--split {split}: expected validation or test")
    depths = _depths(k)
    from experiments.evaluate import evaluate_run
    from experiments.tables import print_evaluation, stdout
    from recsys.run import open_run

    result = evaluate_run(open_run(run, dataset), split, depths, tuple(slice_by or ()))
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        print_evaluation(stdout(), result)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A directory made by `recsys train`.")],
    models: Annotated[Path, typer.Option(help="The folder of all models.")],
    name: Annotated[str, typer.Option(help="The model's name: a folder of versions.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of index or bundle: index.recall_target=0.99.")
    ] = None,
    tflite: Annotated[
        bool, typer.Option("--tflite", help="Add the query tower for phones, in int8: docs/guides/devices.md.")
    ] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="Add the query tower for browsers, in float32.")] = False,
    dataset: _DatasetOption = None,
) -> None:
    """Builds the index and publishes it with the query tower as the model's next version, or refuses.

    Example: recsys export runs/ml-small --models models --name ml-small

    Example: recsys export runs/ml-small --models models --name ml-small --tflite --onnx
    """
    from recsys.run import open_run
    from recsys.toml_config import overridden
    from serving.bundle import INDEX_REPORT
    from serving.export import export as publish
    from serving.query_tower.files import FormatName

    opened = open_run(run, dataset)
    config = overridden(opened.config.for_export, tuple(set_ or ()))
    wanted: dict[FormatName, bool] = {"tflite": tflite, "onnx": onnx}
    done = publish(opened, models, name, config, [form for form, is_wanted in wanted.items() if is_wanted])
    record = done.record
    print(
        f"{done.path}: {record.num_candidates:,} candidates, recall@{record.index_recall_k} {record.index_recall:.4f} "
        f"(more than {record.index_recall_low:.4f} with 95 % confidence); see {done.path / INDEX_REPORT}"
    )


@app.command()
def recommend(
    model: Annotated[Path, typer.Argument(help="A model's folder, <models>/<name>.")],
    user: Annotated[str, typer.Option(help="A raw user id; unknown users are answered too.")] = "",
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    history: Annotated[str, typer.Option(help="Item ids the user took, oldest first: 1,2,3.")] = "",
    exclude: Annotated[str, typer.Option(help="Item ids not to recommend: 1,2,3.")] = "",
    version: Annotated[int | None, typer.Option(help="A version; the latest by default.")] = None,
    as_json: _JsonOption = False,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Answer for all users of the model, by --out.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The Parquet file to make of all users: user_id, rank, item_id, score.")
    ] = None,
) -> None:
    """Answers with the best items that a user has not taken.

    Example: recsys recommend models/ml-small --user 42 -k 10

    Example: recsys recommend models/ml-small --all-users --out best.parquet -k 100
    """
    if all_users or out is not None:
        of_one = {"--user": user, "--history": history, "--exclude": exclude, "--json": as_json}
        _recommend_to_all(model, k, version, all_users, out, [name for name, value in of_one.items() if value])
        return
    from experiments.tables import print_recommendations, stdout
    from serving.bundle import open_bundle
    from serving.recommend import recommend as ask

    answer = ask(open_bundle(model, version), user, k, _ids(history), _ids(exclude))
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        known = "known" if answer["known"] else "unknown to this model"
        known += "; what is popular of late" if answer["source"] == "popularity" else ""
        print_recommendations(stdout(), f"For user {user or 'nobody'} ({known})", answer["items"])


def _recommend_to_all(
    model: Path, k: int, version: int | None, all_users: bool, out: Path | None, of_one: list[str]
) -> None:
    from recsys.artifacts import refuse_existing

    if not all_users or out is None:
        raise ConfigError("--all-users and --out go together: expected --all-users --out best.parquet")
    if of_one:
        raise ConfigError(f"--all-users asks for everybody: leave {', '.join(of_one)} away")
    refuse_existing(out, "file")
    from serving.bundle import open_bundle
    from serving.recommend_all import recommend_all

    print(f"{out}: {recommend_all(open_bundle(model, version), k, out):,} users")


@app.command()
def serve(
    models: Annotated[Path, typer.Argument(help="The folder of all models: MODELS/<name>/<version>/.")],
    config: Annotated[
        Path | None, typer.Option(help="A server.toml; its keys are in serving/server/settings.py.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a key: network.rest_port=8080.")] = None,
) -> None:
    """Answers over REST and gRPC, takes up new versions as they are published, and never drops a request for it.

    Example: recsys serve models

    Example: recsys serve models --set network.host=0.0.0.0 --set security.tokens=tokens.toml
    """
    from recsys.toml_config import load_toml, overridden
    from serving.server.settings import ServerConfig

    overrides = tuple(set_ or ())
    settings = overridden(ServerConfig(), overrides) if config is None else load_toml(ServerConfig, config, overrides)
    from serving.server.run import serve as run

    run(models, settings)


@app.command()
def rollback(model: Annotated[Path, typer.Argument(help="A model's folder, <models>/<name>.")]) -> None:
    """Withdraws a model's newest version; running servers go back to the one before it within a second.

    Example: recsys rollback models/ml-small
    """
    from serving.server.release import roll_back

    withdrawn, serving = roll_back(model)
    print(f"{model}: version {withdrawn} is withdrawn, {serving} is served")


@app.command()
def promote(model: Annotated[Path, typer.Argument(help="A model's folder, <models>/<name>.")]) -> None:
    """Makes a model's newest version stable, where servers try new ones on a share of the traffic first.

    Example: recsys promote models/ml-small
    """
    from serving.server.release import promote as accept

    print(f"{model}: version {accept(model)} is stable")


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="A module of experiments/benchmarks, for example input.")],
) -> None:
    """Measures our way beside others' on the same work; the last line is the result as JSON.

    Example: recsys bench input
    """
    from experiments.benchmarks.harness import run_benchmark

    run_benchmark(name)


def main() -> None:
    """Runs the command; a user's mistake becomes one line on stderr and exit code 2."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        code = typer.main.get_command(app).main(standalone_mode=False)
    except _USAGE_ERROR as error:
        _fail(" ".join(error.format_message().split()))
    except RecsysError as error:
        _fail(" ".join(str(error).split()))
    except ImportError as error:
        _fail(f"a package is missing or does not fit ({error}): `recsys doctor` says which")
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        if (reason := no_room(error)) is None:
            raise
        _fail(f"there is no room to write ({reason}): expected room for all output; make room, or choose another place")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    if message:  # empty when no verb was given and the help was printed
        print(f"recsys: {message}", file=sys.stderr)
    sys.exit(2)


def _ids(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _depths(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--k {text}: expected positive numbers with commas, for example 10,20")
    return tuple(sorted({int(part) for part in parts}))


if __name__ == "__main__":
    main()
