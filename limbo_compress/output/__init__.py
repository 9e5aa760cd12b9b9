"""What is written: a shard's rows and metadata, and the files that they become.

::

    rows ─────────► arrays (npy) in the work folder ─┐
    fragments ────► shard records ──► joined metadata ──┴─► assemble: verify ──► publication: rename

`preflight` checks beforehand that outputs can be published, and `allocate` makes their files.
`workdir` holds the work folder under a `lock`; its `record` says whose it is, and `resume` what
can be trusted. `filesystem` knows what filesystems can do.
"""
