"""Judge: from the facts of a run to what stands out, and why."""
