"""Makes Parquet files that are wrong in every way that was thought of, each with a name that says how.

As a program (`malformed.py FOLDER`) it reads each file of a folder as `run` would, and prints a JSON line for
each: what stops it, and what becomes of its rows, or of the file, where bad input is left out.
"""

import gzip
import io
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.config import OnError, PlanConfig
from indexer.documents import Batch, UnitRead
from indexer.embedding.batches import BatchRule, batches
from indexer.errors import InputError
from indexer.inputs import files as inputs
from indexer.inputs import parquet
from indexer.plan import Model, make_plan

ROWS = 60
CONFIG = PlanConfig(text_columns=("title", "text"), unit_rows=25)
_RULE = BatchRule(items=64, bytes=1 << 20, text_bytes=1 << 20)


def table(prefix: str = "d", rows: int = ROWS) -> dict[str, Any]:
    """Returns the columns of a good file; ids begin with `prefix`."""
    return {
        "doc_id": [f"{prefix}-{row}" for row in range(rows)],
        "title": pa.array([f"title {row}" for row in range(rows)]).dictionary_encode(),
        "text": [f"the text of row {row}, which is no other's" for row in range(rows)],
    }


def parquet_bytes(columns: dict[str, Any], **options: Any) -> bytes:
    """Returns a Parquet file in row groups of 20 rows."""
    made = columns if isinstance(columns, pa.Table) else pa.table(columns)
    out = io.BytesIO()
    pq.write_table(made, out, **{"row_group_size": 20, "compression": "none", **options})
    return out.getvalue()


def _changed(content: bytes, at: int, flip: int = 0xFF, count: int = 1) -> bytes:
    changed = bytearray(content)
    for place in range(at, at + count):
        changed[place] ^= flip
    return bytes(changed)


def _pages(column: int, *, checksum: bool, **options: Any) -> bytes:
    """A file whose second row group has damage in the middle of one column's data."""
    content = parquet_bytes(table(f"page{column}"), write_page_checksum=checksum, **options)
    chunk = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(1).column(column)
    start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    # Headers of pages stand at both ends of the damage at times, values always.
    return _changed(content, start + chunk.total_compressed_size // 2, count=chunk.total_compressed_size // 4)


def _footer(place: float, flip: int) -> bytes:
    content = parquet_bytes(table("footer"))
    length = int.from_bytes(content[-8:-4], "little")
    return _changed(content, len(content) - 8 - length + int(place * (length - 1)), flip)


def _twice() -> pa.Table:
    columns = table("twice")
    return pa.Table.from_arrays(
        [pa.array(columns[name]) for name in ("doc_id", "title", "text", "text")],
        names=["doc_id", "title", "text", "text"],
    )


def _with(**other: Any) -> dict[str, Any]:
    return {**table("other"), **other}


def _contents() -> dict[str, bytes]:
    good = parquet_bytes(table("good"))
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    made = {
        "empty": b"",
        "one_byte": b"P",
        "magic_only": b"PAR1",
        "magic_twice": b"PAR1PAR1",
        "wrong_magic_at_the_end": good[:-4] + b"PAR9",
        "encrypted_marker": b"PARE" + good[4:-4] + b"PARE",
        "footer_length_zero": good[:-8] + bytes(4) + b"PAR1",
        "footer_length_huge": good[:-8] + b"\xff\xff\xff\x7f" + b"PAR1",
        "footer_length_negative": good[:-8] + b"\xff\xff\xff\xff" + b"PAR1",
        "footer_zeroed": good[:footer] + bytes(len(good) - 8 - footer) + good[-8:],
        "footer_moved": good[: footer - 7] + good[footer:],
        "zeros": bytes(4096),
        "csv": b"doc_id,title,text\na,b,c\n",
        "json_lines": b'{"doc_id": "a", "text": "b"}\n',
        "gzip_of_parquet": gzip.compress(good, mtime=0),
        "zlib_of_parquet": zlib.compress(good),
        "html": b"<!doctype html><title>404 Not Found</title>",
        "two_glued": good[:footer] + good,
        "no_columns": parquet_bytes(pa.table({})),
        "without_id": parquet_bytes({name: table()[name] for name in ("title", "text")}),
        "without_text": parquet_bytes({"doc_id": table()["doc_id"]}),
        "other_case": parquet_bytes({name.upper(): column for name, column in table().items()}),
        "a_column_twice": parquet_bytes(_twice()),
        "id_float": parquet_bytes(_with(doc_id=[row / 2 for row in range(ROWS)])),
        "id_list": parquet_bytes(_with(doc_id=[[row] for row in range(ROWS)])),
        "id_struct": parquet_bytes(_with(doc_id=[{"n": row} for row in range(ROWS)])),
        "id_bool": parquet_bytes(_with(doc_id=[row % 2 == 0 for row in range(ROWS)])),
        "id_date": parquet_bytes(_with(doc_id=pa.array(range(ROWS), pa.date32()))),
        "text_number": parquet_bytes(_with(text=list(range(ROWS)))),
        "text_list": parquet_bytes(_with(text=[["a", "b"]] * ROWS)),
        "text_struct": parquet_bytes(_with(text=[{"body": "a"}] * ROWS)),
        "text_map": parquet_bytes(
            _with(text=pa.array([[("a", "b")]] * ROWS, pa.map_(pa.string(), pa.string())))
        ),
        # From here on files that can be read, some of whose rows are no documents.
        "rows_none": parquet_bytes(table(rows=0)),
        "row_groups_none": parquet_bytes(pa.table(table()).slice(0, 0)),
        "rows_null_ids": parquet_bytes(_with(doc_id=[None] * ROWS)),
        "rows_null_type_ids": parquet_bytes(_with(doc_id=pa.nulls(ROWS))),
        "rows_empty_ids": parquet_bytes(_with(doc_id=[""] * ROWS)),
        "rows_ids_no_text": parquet_bytes(_with(doc_id=pa.array([b"\xff\xfe"] * ROWS))),
        "rows_texts_no_text": parquet_bytes(_with(text=pa.array([b"\xc3\x28"] * ROWS))),
        "rows_texts_cut_in_a_letter": parquet_bytes(_with(text=pa.array(["é".encode()[:1]] * ROWS))),
        "rows_null_texts": parquet_bytes(_with(text=[None] * ROWS, title=[None] * ROWS)),
        "rows_blank_texts": parquet_bytes(_with(text=["  \u2003"] * ROWS, title=[""] * ROWS)),
        "rows_same_id": parquet_bytes(_with(doc_id=["same"] * ROWS)),
        "rows_ids_of_another_file": parquet_bytes(table("good")),
    }
    for percent in (1, 10, 30, 50, 70, 90, 99):
        made[f"cut_at_{percent}_percent"] = good[: len(good) * percent // 100]
    for number in (1, 4, 8, 9, 100):
        made[f"cut_by_{number}_bytes"] = good[:-number]
    for column, name in enumerate(("id", "title", "text")):
        for checksum in (True, False):
            label = f"page_of_{name}_{'with' if checksum else 'without'}_checksum"
            made[label] = _pages(column, checksum=checksum)
        made[f"page_of_{name}_snappy"] = _pages(
            column, checksum=False, compression="snappy", data_page_version="2.0"
        )
    for place in (0.02, 0.1, 0.25, 0.4, 0.6, 0.8, 0.95):
        made[f"footer_flipped_at_{place}"] = _footer(place, 0x80)
    return made


def make_malformed(folder: Path) -> dict[str, Path]:
    """Writes every malformed file into a folder; returns their paths by name."""
    folder.mkdir(exist_ok=True)
    made = {}
    for name, content in _contents().items():
        made[name] = folder / f"{name}.parquet"
        made[name].write_bytes(content)
    made["a_folder"] = folder / "a_folder.parquet"
    made["a_folder"].mkdir()
    made["a_pipe"] = folder / "a_pipe.parquet"
    os.mkfifo(made["a_pipe"])
    made["no_target"] = folder / "no_target.parquet"
    made["no_target"].symlink_to("nowhere")
    made["not_allowed"] = folder / "not_allowed.parquet"
    made["not_allowed"].write_bytes(parquet_bytes(table("secret")))
    made["not_allowed"].chmod(0)
    return made


def read_as_run(path: str) -> dict[str, Any]:
    """Reads a file as `run` would, both ways; returns what came of it."""
    return {"stop": _stopped_by(path), **_skipped(path)}


def _stopped_by(path: str) -> str:
    try:
        described, _ = inputs.describe([path], CONFIG)
        plan = make_plan(described, CONFIG, Model("f" * 64, "four", 4, normalized=False))
        inputs.check_ids(plan)
        for _ in parquet.read_chunks(described[0], CONFIG.id_column, CONFIG.text_columns, plan.units):
            pass
    except InputError as error:
        return str(error)
    return ""


def _skipped(path: str) -> dict[str, Any]:
    try:
        described, _ = inputs.describe([path], CONFIG, OnError.SKIP)
    except InputError as error:
        return {"left_out": str(error)}
    plan = make_plan(described, CONFIG, Model("f" * 64, "four", 4, normalized=False))
    chunks = parquet.read_chunks(
        described[0], CONFIG.id_column, CONFIG.text_columns, plan.units, OnError.SKIP
    )
    refused = inputs.refused_ids(plan)
    items = list(batches(chunks, _RULE, refused=refused))
    reasons = [reject.reason for item in items if isinstance(item, UnitRead) for reject in item.rejects]
    texts = sum(len(item.texts) for item in items if isinstance(item, Batch))
    return {"rows": described[0].rows, "documents": texts, "rejects": reasons}


if __name__ == "__main__":
    for one in sorted(Path(sys.argv[1]).iterdir()):
        print(json.dumps({"name": one.stem, **read_as_run(str(one))}), flush=True)  # noqa: T201 - its output
