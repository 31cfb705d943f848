"""One file for each model family; the folder is the registry."""
