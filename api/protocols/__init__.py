"""One file for each wire protocol; the folder is the registry."""
