"""A gRPC pool of pinned single-thread embedding processes, and the bundle that it serves."""
