"""What is read: samples are found, and their files read and parsed.

::

    directories ──► discovery ──► ordered paths ──► reader ──► SampleFiles
                                                    uses metadata (parse) and schema (what it says)
"""
