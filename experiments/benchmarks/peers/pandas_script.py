"""Data preparation as a plain pandas script: encode, split in time, write a `tf.train.Example` per interaction.

python -m experiments.benchmarks.peers.pandas_script rows.csv OUT HISTORY_LENGTH
"""

import sys
from collections import defaultdict, deque
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf


def main(source: str, out: Path, history_length: int) -> None:
    """Writes `train.tfrecord`, `validation.tfrecord` and `test.tfrecord`, and the vocabularies as text."""
    rows = pd.read_csv(source) if source.endswith(".csv") else pd.read_parquet(source)
    rows = rows.dropna().sort_values("timestamp", kind="stable")
    cuts = rows["timestamp"].quantile([0.8, 0.9])
    train = rows[rows["timestamp"] < cuts[0.8]]
    for name in ("user_id", "item_id"):
        known = train[name].value_counts().index
        (out / f"{name}.txt").write_text("\n".join(known))
        codes = pd.Series(np.arange(2, len(known) + 2), known)
        rows[name] = rows[name].map(codes).fillna(1).astype(np.int64)
    split = np.searchsorted(cuts.to_numpy(), rows["timestamp"].to_numpy(), side="right")
    latest: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=history_length))
    writers = [tf.io.TFRecordWriter(str(out / f"{name}.tfrecord")) for name in ("train", "validation", "test")]
    columns = (rows[name].tolist() for name in ("user_id", "item_id", "timestamp", "rating"))
    for part, user, item, time, rating in zip(split.tolist(), *columns, strict=True):
        feature = {
            "user_id": tf.train.Feature(int64_list=tf.train.Int64List(value=[user])),
            "item_id": tf.train.Feature(int64_list=tf.train.Int64List(value=[item])),
            "timestamp": tf.train.Feature(int64_list=tf.train.Int64List(value=[time])),
            "rating": tf.train.Feature(float_list=tf.train.FloatList(value=[rating])),
        }
        if history_length:
            history = latest[user]
            feature["history"] = tf.train.Feature(int64_list=tf.train.Int64List(value=history))
            history.append(item)
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        writers[part].write(example.SerializeToString())
    for writer in writers:
        writer.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
