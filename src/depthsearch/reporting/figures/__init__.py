"""Tidy tables to matplotlib figures; no files and no training here.

Lines and bars are means over repeats, bands and whiskers one standard deviation, but where a title says otherwise. A
figure whose runs do not exist is None.
"""
