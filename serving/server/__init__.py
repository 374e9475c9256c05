"""`recsys serve`: published bundles over REST and gRPC.

One process speaks with clients and never runs a graph; each loaded version of a model lives in a process of its own
(`worker`). So loading a version does not slow the answers of the one before it, and its memory ends with its process.
"""
