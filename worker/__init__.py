"""A gRPC pool of pinned single-thread embedding processes, and the bundle that it serves."""

import os

# Since 1.29 ONNX Runtime tells its maker what runs, unless this is set before it is imported, and keeps a
# database in the home folder that every process holds open. Who serves texts expects neither.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# gRPC's core writes lines of its own to stderr, one for each failed handshake. They break the log's form,
# and its errors reach us as exceptions. It looks here once, when imported: set it to INFO to see them.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
