"""The served graph on one core: beside torch and FP32, its integer share, short texts in groups.

CPU time of the pinned thread counts, in turns: a machine that does something else hardly changes it.
Also run alone: `python -m tests.bench.one_core BUNDLE`.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import transformers
from numpy.typing import NDArray

from build_models.sources import DEFAULT_MODEL, resolve
from tests.bench.environments import fp32_bundle
from tests.bench.report import one_core_table
from worker.bundle import Bundle, read_bundle
from worker.session import INPUT, INTEGER_KERNELS, Session, session_options

LENGTHS = (32, 128, 240)
SHORT = (8, 16)
GROUP_TOKENS = 64
ROUNDS = 15
_PROFILED_RUNS = 20

Call = Callable[[], object]


def measure(bundle_folder: Path) -> dict[str, Any]:
    """Returns milliseconds by length, size and integer share, and tokens/s of short texts."""
    served, fp32 = read_bundle(bundle_folder), read_bundle(fp32_bundle())
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    model = transformers.AutoModel.from_pretrained(resolve(DEFAULT_MODEL).path, local_files_only=True).eval()
    sessions = {"ONNX FP32": Session(fp32), "served": Session(served)}
    milliseconds: dict[int, dict[str, float]] = {}
    for length in LENGTHS:
        ids = _ids(length)
        calls: dict[str, Call] = {"PyTorch FP32": _torch_call(model, ids)}
        calls |= {name: _call(session, [ids]) for name, session in sessions.items()}
        milliseconds[length] = _in_turns(calls)
    return {
        "milliseconds": milliseconds,
        "bytes": {"ONNX FP32": fp32.model.stat().st_size, "served": served.model.stat().st_size},
        "integer_share": {length: _integer_share(served, length) for length in LENGTHS},
        "short_tokens_per_second": {length: _short(served, length) for length in SHORT},
    }


def _ids(length: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng([seed, length]).integers(1000, 30000, length, dtype=np.int64)


def _call(session: Session, texts: list[NDArray[np.int64]]) -> Call:
    return lambda: session.embed(texts)


def _torch_call(model: Any, ids: NDArray[np.int64]) -> Call:
    given = torch.from_numpy(ids[None])

    def run() -> object:
        with torch.inference_mode():
            return model(input_ids=given).last_hidden_state.mean(dim=1)

    return run


def _in_turns(calls: Mapping[str, Call]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            started = time.thread_time()
            call()
            if turn:  # the first run of a shape also allocates
                seconds[name].append(time.thread_time() - started)
    return {name: 1000 * statistics.median(found) for name, found in seconds.items()}


def _integer_share(bundle: Bundle, length: int) -> float:
    """Returns the share of the kernels' time that integer products take, by ONNX Runtime's own profile."""
    with TemporaryDirectory() as folder:
        options = session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(bundle.model), options, providers=["CPUExecutionProvider"])
        for _ in range(_PROFILED_RUNS):
            session.run(None, {INPUT: _ids(length)[None]})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs: dict[tuple[str, str], list[int]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            runs.setdefault((event["args"]["op_name"], event["name"]), []).append(event["dur"])
    times = {key: statistics.median(found) for key, found in runs.items()}
    products = sum(value for (operator, _), value in times.items() if operator in INTEGER_KERNELS)
    return products / sum(times.values())


def _short(bundle: Bundle, length: int) -> dict[str, float]:
    texts = [_ids(length, seed) for seed in range(GROUP_TOKENS // length)]
    sessions = {
        "alone": Session(replace(bundle, manifest=replace(bundle.manifest, max_group_tokens=0))),
        "grouped": Session(bundle),  # as the manifest allows
    }
    times = _in_turns({name: _call(session, texts) for name, session in sessions.items()})
    return {name: 1000 * GROUP_TOKENS / found for name, found in times.items()}


if __name__ == "__main__":
    found = measure(Path(sys.argv[-1]))
    print(json.dumps(found) if "--json" in sys.argv else "\n".join(one_core_table(found)))
