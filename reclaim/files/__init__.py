"""Files of this machine, opened by descriptor, trusted or not."""
