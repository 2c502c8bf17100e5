"""Experiments and timings of bilevelnet: cases (the mathematics once), peers (one file a library), metrics.

It imports bilevelnet, never the reverse.
"""
