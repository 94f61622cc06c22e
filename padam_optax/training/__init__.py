"""Training of any task with any optimizer. Nothing here knows a model or a data set by name."""
