"""From a specification to a program, a run, a queue, jobs side by side, a sweep, a search."""
