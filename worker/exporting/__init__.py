"""Turns the results of a batch into one archive that a trainer or a labelling tool reads.

Images go through one by one, so memory does not grow with their number: what belongs into one large file
waits in temporary files (``spool.py``), the archive is written as a stream, and its directory is kept on
disk. What does grow is the table of categories, by an entry for each name.
"""
