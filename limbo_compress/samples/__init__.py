"""What is read: samples are found, and their files read and parsed.

::

    directories ──► discovery ──► ordered paths ──► reader ──► SampleFiles
                                                    uses metadata_json (parse) and schema
"""
