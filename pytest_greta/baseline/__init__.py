"""What a suite's probes said when somebody last looked at it and agreed, and whether a run is worse than that."""
