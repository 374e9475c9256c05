"""Asks SavedModels in a process of its own: `python answer_check.py REQUESTS.npz FOLDER MODEL…`.

Imports what a client has and nothing of this project: TensorFlow, and for all but the first model ScaNN.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from sys import argv
from typing import Any

import numpy as np
import tensorflow as tf

_ALONE = 8


def main(requests_path: str, folder: str, *models: str) -> None:
    """Loads the models, asks their signatures, and saves the answers as FOLDER/answers-NUMBER.npz.

    The inputs are found under `<signature>/<input>`, and the outputs saved under `<signature>/<output>`.
    """
    requests = dict(np.load(requests_path))
    for number, model in enumerate(models):
        if number:
            import_module("scann")  # registers its ops; the first model has to do without
        found: dict[str, Any] = answers(tf.saved_model.load(model).signatures, requests)
        np.savez(Path(folder) / f"answers-{number}.npz", **found)


def answers(
    signatures: Mapping[str, Callable[..., dict[str, tf.Tensor]]], requests: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Asks each signature for all rows at once, then for the first ones alone, which an index may answer otherwise.

    Args:
      signatures: by name.
      requests: inputs by `<signature>/<input>`: [batch, …] str, or scalars.

    Returns:
      Outputs by `<signature>/<output>`, [batch + min(batch, 8), …]; strings as str.
    """
    found: dict[str, list[np.ndarray]] = {}
    for signature in sorted({name.partition("/")[0] for name in requests}):
        of_it = {name.partition("/")[2]: value for name, value in requests.items() if name.startswith(f"{signature}/")}
        [batch] = {len(value) for value in of_it.values() if value.ndim}
        for rows in [slice(batch), *(slice(row, row + 1) for row in range(min(batch, _ALONE)))]:
            inputs = {name: _tensor(value[rows] if value.ndim else value) for name, value in of_it.items()}
            for name, output in signatures[signature](**inputs).items():
                found.setdefault(f"{signature}/{name}", []).append(output.numpy())
    return {name: _as_text(np.concatenate(parts)) for name, parts in found.items()}


def _tensor(value: np.ndarray) -> tf.Tensor:
    return tf.constant(value.tolist(), tf.string if value.dtype.kind == "U" else value.dtype, value.shape)


def _as_text(values: np.ndarray) -> np.ndarray:
    return np.char.decode(values.astype(bytes), "utf-8") if values.dtype == object else values


if __name__ == "__main__":
    main(*argv[1:])
