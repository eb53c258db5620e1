"""Pages, figures, grids and reports, and the one place that writes them."""
