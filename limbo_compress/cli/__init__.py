"""The commands: the only wing that prints.

::

    start ──► compress: argv ──► limbo_compress.compress(Options) ──► messages, exit code
    signals   export: argv ──► limbo_compress.export_dataset(...) ──► messages, exit code
              progress: a bar or lines, while either runs
"""
