"""REST: TensorFlow Serving's API, the Open Inference Protocol, ours, and what operators need."""
