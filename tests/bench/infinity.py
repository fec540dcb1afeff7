"""Infinity (PyPI infinity-emb, MIT) as a server of the same model: torch, default settings, loopback."""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.bench.environments import HOME, python_of, source_model
from tests.bench.systems import ENVIRONMENT

READY_SECONDS = 180.0  # to load torch and the model, and to warm up
STOP_SECONDS = 30.0


class Connection:
    """One HTTP connection that is kept open."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._http = http.client.HTTPConnection(host, int(port), timeout=READY_SECONDS)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 `[texts, dim]`; raises RuntimeError when the server refuses."""
        body = json.dumps({"model": "bench", "input": list(texts)})
        try:
            answer = self._post(body)
        except ConnectionError:
            # Its server closes a connection that was idle for 5 seconds, whatever comes on it.
            self._http.close()
            answer = self._post(body)
        data = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"HTTP {answer.status}: {data[:200]!r}")
        return np.array([row["embedding"] for row in json.loads(data)["data"]], dtype=np.float32)

    def _post(self, body: str) -> http.client.HTTPResponse:
        self._http.request("POST", "/embeddings", body, {"content-type": "application/json"})
        return self._http.getresponse()


class Infinity:
    """A running server."""

    name = "infinity"

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        command = [str(python_of("infinity").with_name("infinity_emb")), "v2"]
        command += ["--model-id", str(source_model()), "--served-model-name", "bench"]
        command += ["--engine", "torch", "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
        (HOME / "log").mkdir(parents=True, exist_ok=True)
        with (HOME / "log" / "infinity").open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT, "DO_NOT_TRACK": "1"}
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"error: Infinity did not start; it says why in {HOME / 'log' / 'infinity'}")
            time.sleep(0.5)

    def _answers(self) -> bool:
        try:
            return len(Connection(self.address).embed(["ready"])) == 1
        except OSError:
            return False

    def close(self) -> None:
        """Stops the server."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
