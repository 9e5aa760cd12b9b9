"""The commands: the only wing that prints.

::

    start ──► compress: argv ──► limbo_compress.compress(Options) ──► messages, exit code
    signals   progress: a bar or lines, while the job runs
"""
