"""The files that name devices at boot, and the services beside them."""
