"""Looking at the outputs: what is in them, what it looks like, whether it is what the sources say.

::

    Dataset ──► stretches ──┬──► metadata_counts, pixels ──► summary
                of rows     ├──► leaks: rows that two sets both have
                            ├──► views: sheet, gallery
                            ├──► description ──► card, croissant
                            └──► verify ◄── the samples, read again
"""
