"""Looking at the outputs: what is in them, what it looks like, whether it is what the sources say.

::

    Dataset ──► stretches ──┬──► metadata_counts, pixels ──► summary
                of rows     ├──► views: sheet, gallery
                            └──► verify ◄── the samples, read again
"""
