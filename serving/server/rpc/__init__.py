"""gRPC: TensorFlow Serving's services and the standard health service."""
