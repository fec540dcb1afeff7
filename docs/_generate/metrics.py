"""The metrics page, asked as Prometheus asks, of a server that was never started."""

import os
from types import SimpleNamespace
from typing import Any, cast

from docs._generate.markdown import prose, table
from worker.models import Model
from worker.operation.metrics import metrics
from worker.operation.overview import Overview
from worker.processes.lifecycle import State
from worker.processes.slot import ProcessView
from worker.scheduling.scheduler import Priority
from worker.statistics import Statistics


def metric_names() -> str:
    """Returns the name, kind, labels and meaning of each metric."""
    rows = [
        (
            f"`{_name(family)}`",
            family.type,
            ", ".join(f"`{label}`" for label in _labels(family)),
            _text(family),
        )
        for family in sorted(metrics(_overview()), key=lambda family: str(family.name))
    ]
    return table(("metric", "kind", "labels", ""), rows)


def _overview() -> Overview:
    statistics = Statistics()
    statistics.rpc_ended("/service/method", "OK")
    manifest = SimpleNamespace(name="", fingerprint="", recipe={"name": ""})
    nothing = dict.fromkeys(Priority, 0)
    return Overview(
        uptime=0,
        live=True,
        model=cast("Model", SimpleNamespace(manifest=manifest, generation=1)),
        processes=[ProcessView(0, os.getpid(), State.RUNNING, runs=0, restarts=0, generation=1)],
        statistics=statistics,
        waiting=nothing,
        bytes=nothing,
        byte_limits=nothing,
        open_streams=0,
        max_streams=0,
    )


def _name(family: Any) -> str:
    return f"{family.name}_total" if family.type == "counter" else str(family.name)


def _labels(family: Any) -> list[str]:
    return [label for label in family.samples[0].labels if label != "le"] if family.samples else []


def _text(family: Any) -> str:
    return prose(str(family.documentation))
