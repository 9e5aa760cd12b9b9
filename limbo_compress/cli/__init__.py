"""The commands: the only package that prints.

::

    start ──► messages ──► compress, export, inspect: a module for each command, with
    signals   exit code      parser()          its flags; `parser` has those that commands share
                             run(arguments)    public names of the package ──► lines on stdout
              progress: a bar or lines, while a command runs
"""
