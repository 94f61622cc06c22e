"""Runs experiments: the program of a specification, a run, a queue, jobs side by side, a sweep, a search."""
