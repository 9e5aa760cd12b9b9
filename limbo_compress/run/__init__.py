"""Who does the work: rows are split into shards, which worker processes compress.

::

    rows ──► shards ──► tasks ──► executor ──► engine ──► worker: one whole shard ──► ShardRecord
                                  policy       processes, or dask

`launch` starts a worker process; `sample_warnings` catches what libraries print.
"""
