"""The commands that write, check and explain an inventory, and its schema."""
