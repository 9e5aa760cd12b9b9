"""Looking at the outputs: what is in them, what it looks like, whether it is what the sources say.

::

    prefixes ──► selection ──► work ──┬──► counts, pixels ──► summary
                 some rows     in     ├──► views: sheet, gallery
                               pieces └──► verify ◄── the samples, read again
"""
