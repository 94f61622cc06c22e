"""Readers of data sets: they read files into host arrays, and their errors name the file and what was expected."""
