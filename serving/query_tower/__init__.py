"""The query tower as a file of its own, for phones (TFLite) and browsers (ONNX): docs/guides/devices.md."""
