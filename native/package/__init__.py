"""The attention libraries of pytest-greta and their cffi declarations, as files beside this one. Imported on demand."""
