"""From a specification to a program, a run, a queue, a sweep, a search."""
