"""The domain XML: read, compared, edited."""
