"""Readers of data sets: files to host arrays, with errors that name the file and what was expected."""
