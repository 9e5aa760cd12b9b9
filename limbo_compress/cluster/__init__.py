"""Many machines: what they grant this process, what they must have, and how far they are.

::

    environment, cgroups ──► cpus        how many workers to start
    environment, --partition ──► arrays  which of the rows to do
    another machine ──► probe            what it lacks to take part
    the work folder ──► status           what is done, what is missing, who is at work
"""
