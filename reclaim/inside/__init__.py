"""The answers of one script in the guest, as pure functions of `Facts`."""
