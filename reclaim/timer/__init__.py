"""`reclaim timer`: a service and a timer of systemd that audit on a schedule."""
