"""The gRPC service of searches: who may ask, how much at once, and what they are told. Rests on `search`."""
