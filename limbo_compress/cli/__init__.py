"""The commands: the only wing that prints.

::

    argv ──► compress ──► limbo_compress.compress(Options) ──► messages, exit code
             progress: a bar or lines, while the job runs
"""
