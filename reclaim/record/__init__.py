"""results.json, the one record of a run, written and read."""
