"""Who does the work: rows are split into shards, which worker processes compress.

::

    rows ──► shards ──► tasks ──► executor (processes) ──► worker: one shard, start to end ──► Part

`cpus` says how many workers to start; `stderr` catches what libraries print.
"""
