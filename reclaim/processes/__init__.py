"""Programs that are started on this machine, and the threads that wait for them."""
