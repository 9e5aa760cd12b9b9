"""What is written: a shard's rows and metadata, and the files that they become.

::

    rows ─────────► arrays (npy) in the work folder ─┐
    fragments ────► part-files ──► joined metadata ──┴─► publish: verify, rename

`create` makes the files and reserves their space.
`workdir` holds the work folder under a `lock`; `filesystem` knows what filesystems can do.
"""
