"""Show: one view of a run as text, as a page and as JSON."""
