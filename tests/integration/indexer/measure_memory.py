"""Embeds inputs in a process of its own and tells the peak of its memory, for `test_memory`.

measure_memory.py ADDRESS OUTPUT UNIT_ROWS MIB_UNITS FILE…: the first file is small and warms up; prints the
peak (VmHWM) after it and after the others, in bytes.
"""

import io
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from indexer.client import Access, describe
from indexer.config import FlowConfig, PlanConfig, RunConfig
from indexer.embedding.units import embed_units
from indexer.embedding.work import Work
from indexer.inputs import parquet
from indexer.plan import make_plan
from indexer.progress import Stage
from indexer.store.layout import Layout


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    """Embeds the first file, then all others."""
    address, output, unit_rows, mib, *files = sys.argv[1:]
    pools = {address: describe(address, Access(), 10.0)}
    config = PlanConfig(text_columns=("text",), unit_rows=int(unit_rows))
    flow = replace(FlowConfig(), unit_memory_bytes=int(mib) << 20)
    for name, some in (("warm", files[:1]), ("measured", files[1:])):
        inputs = [parquet.describe_input(path) for path in some]
        plan = make_plan(inputs, config, pools[address].model)
        root = Path(output) / name
        run = RunConfig(inputs=("x",), output=root, plan=config, flow=flow)
        stage = Stage(Console(file=io.StringIO()), "embedding", plan.rows)
        embed_units(Work(run, Layout(root), plan), pools, Access(), iter(plan.units), stage)
        sys.stdout.write(f"{_peak()}\n")


if __name__ == "__main__":
    main()
