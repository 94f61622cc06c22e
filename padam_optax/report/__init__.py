"""Tables, figures and the verdicts on the paper's claims, from recorded runs. Nothing here trains."""
