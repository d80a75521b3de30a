"""Care of a data folder: backups, checks and repairs, from the command line and by the running node."""
