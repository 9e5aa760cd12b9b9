"""Programs that read exports, but cannot be installed alongside our own dependencies.

::

    run (our environment) ──► build/clients: exports, and what the source files say
                          ──► check_CLIENT (.venv-clients): reads the exports, and compares
"""
