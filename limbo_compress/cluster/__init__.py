"""What a cluster grants this process: its CPUs, and its share of a job array.

::

    environment, cgroups ──► cpus        how many workers to start
    environment, --partition ──► arrays  which of the rows to do
"""
