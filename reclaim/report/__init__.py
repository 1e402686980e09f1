"""Everything that people read is made here from the record: terminal, HTML, index, metrics."""
