"""Figures, image grids and HTML pages; the report of a run, and the files of a study."""
