"""Every kind of change that `--fix` can make and undo can take back."""
