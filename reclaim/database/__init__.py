"""The runs of many hypervisors in one SQLite file: merged, asked, and shown on one page."""
