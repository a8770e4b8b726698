"""Records as Parquet: the frame of records with the list column ``chunk_ns``; ``run.json`` is in the metadata."""

from pathlib import Path

from loadgen.results.manifest import to_json
from loadgen.results.run_data import Run


def write(run: Run, path: Path) -> list[Path]:
    """Write the file, and return its path in a list; raises OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chunks = pa.array(run.requests.values("chunk_ns"), type=pa.list_(pa.int64()))
    table = pa.Table.from_pandas(run.records, preserve_index=False).append_column("chunk_ns", chunks)
    metadata = {**(table.schema.metadata or {}), b"loadgen.run.json": to_json(run.manifest)}
    with path.open("wb") as file:
        pq.write_table(table.replace_schema_metadata(metadata), file, compression="zstd")
    return [path]
