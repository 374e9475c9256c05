"""Two-tower retrieval on TensorFlow Recommenders: schema, input pipeline, models, training, evaluation."""

import os

# TensorFlow Recommenders is written for Keras 2; TensorFlow reads this when it is first imported.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
