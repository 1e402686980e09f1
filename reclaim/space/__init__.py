"""How many bytes can come back, and whether they did."""
