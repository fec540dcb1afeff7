"""What `run --summary FILE` writes: one JSON object, kept up to date while the run goes on.

The file is replaced whole, so a reader never sees half of it.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from indexer.errors import StorageError
from indexer.operations.pipeline import Summary
from indexer.progress import Reached
from indexer.store.durable import TEMPORARY

SCHEMA_VERSION = 1


class RunReport:
    """The summary of one run.

    Args:
        path: Its file; None writes nothing.

    Raises:
        StorageError: The file cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._started = time.monotonic()
        self._last: dict[str, Any] = {}
        self._write({"state": "running"})

    def reached(self, stage: Reached) -> None:
        """Notes how far the run is."""
        self._last = {
            "stage": stage.name,
            "rows_done": stage.done,
            "rows": stage.total,
            "per_second": round(stage.per_second, 3),
            "eta_seconds": None if stage.seconds_left is None else round(stage.seconds_left, 1),
        }
        # What is shown on the way is not worth the end of a run.
        with suppress(StorageError):
            self._write({"state": "running", **self._last})

    def done(self, summary: Summary) -> None:
        """Writes what the run did; raises StorageError."""
        self._write({"state": "done", **as_json(summary)})

    def failed(self, error: BaseException) -> None:
        """Writes that the run ended early, and why; the error itself is what matters, so none is raised."""
        with suppress(StorageError):
            self._write({"state": "failed", "error": str(error) or type(error).__name__, **self._last})

    def _write(self, said: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        whole = {
            "schema_version": SCHEMA_VERSION,
            "elapsed_seconds": round(time.monotonic() - self._started, 3),
            **said,
        }
        temporary = self._path.with_name(self._path.name + TEMPORARY)
        try:
            temporary.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            raise StorageError(
                f"cannot write the summary {self._path}: {error.strerror}; choose another --summary"
            ) from error


def as_json(summary: Summary) -> dict[str, Any]:
    """Returns what a run did, and what stands now, as JSON has it."""
    meta = summary.generation.meta
    seconds = summary.seconds["embed"]
    return {
        "documents": summary.documents,
        "vectors": meta.count,
        "rows": summary.plan.rows,
        "replaced_or_deleted": meta.dead,
        "rejects": dict(sorted(reject_reasons(summary).items())),
        "truncated": sum(receipt.truncated for receipt in summary.receipts),
        "tokens": sum(receipt.tokens for receipt in summary.receipts),
        "embedded": summary.embedded,
        "reused": summary.reused,
        "text_bytes": summary.text_bytes,
        "documents_per_second": round(summary.embedded / seconds, 3) if summary.embedded else 0.0,
        "seconds": {name: round(value, 3) for name, value in summary.seconds.items()},
        "left_out": [{"path": file.path, "reason": file.reason} for file in summary.skipped],
        "vanished": list(summary.vanished),
        "model": {"name": summary.plan.model.name, "fingerprint": summary.plan.model.fingerprint},
        "index": {
            "generation": str(summary.layout.generations / summary.generation.name),
            "key": meta.key,
            "bytes": meta.bytes,
        },
    }


def reject_reasons(summary: Summary) -> Counter[str]:
    """Returns how many rows were rejected, by reason."""
    reasons: Counter[str] = Counter()
    for receipt in summary.receipts:
        reasons.update(receipt.rejects)
    return reasons
