"""What a user of the package `tritonclient` does, in an environment of its own; prints JSON.

python triton_client.py HOST:PORT MODEL < texts, a JSON list
"""

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

Facts = dict[str, Any]


def request(texts: list[str]) -> tuple[list[Any], list[Any]]:
    """Returns inputs and outputs as the package wants them."""
    tensor = triton.InferInput("text", [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()] for text in texts], dtype=np.object_))
    return [tensor], [triton.InferRequestedOutput(name) for name in ("embeddings", "token_count")]


def facts_of(result: Any) -> Facts:
    """Returns what a result holds."""
    vectors, tokens = result.as_numpy("embeddings"), result.as_numpy("token_count")
    return {
        "vectors": base64.b64encode(vectors.tobytes()).decode(),
        "shape": vectors.shape,
        "type": str(vectors.dtype),
        "tokens": tokens.tolist(),
        "id": result.get_response().id,
    }


def refusal(call: Callable[[], object]) -> str:
    """Returns the status and the message that a call is refused with."""
    try:
        call()
    except triton.InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "OK"


def sync_facts(address: str, model: str, texts: list[str]) -> Facts:
    """Uses the client with threads."""
    with triton.InferenceServerClient(address) as client:
        inputs, outputs = request(texts)
        metadata = client.get_model_metadata(model, as_json=True)
        result = client.infer(model, inputs, outputs=outputs, request_id="7", timeout=60_000_000, priority=1)
        query = client.infer(
            model, request(texts[:1])[0], parameters={"input_type": "query", "truncate": "END"}
        )
        part = client.infer(model, inputs, parameters={"dimensions": 8})
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready(model),
            "other_ready": client.is_model_ready("other"),
            "server": client.get_server_metadata(as_json=True)["name"],
            "inputs": metadata["inputs"],
            "all": facts_of(result),
            "query": facts_of(query),
            "part": facts_of(part),
            "unknown": refusal(lambda: client.infer("other", inputs)),
            "misspelt": refusal(lambda: client.infer(model, inputs, parameters={"dimension": 8})),
            "empty": refusal(lambda: client.infer(model, request(["good", ""])[0])),
        }


async def aio_facts(address: str, model: str, texts: list[str]) -> Facts:
    """Uses the client with asyncio, several calls at once."""
    async with triton_aio.InferenceServerClient(address) as client:
        calls = [client.infer(model, request(texts)[0], request_id=str(number)) for number in range(4)]
        return {
            "ready": await client.is_server_ready(),
            "answers": [facts_of(result) for result in await asyncio.gather(*calls)],
        }


def main() -> None:
    """Prints what both clients saw."""
    address, model = sys.argv[1:]
    texts = json.load(sys.stdin)
    facts = {
        "sync": sync_facts(address, model, texts),
        "aio": asyncio.run(aio_facts(address, model, texts)),
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
