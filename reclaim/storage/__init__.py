"""Images on the host: their formats, their blocks, and who uses them."""
