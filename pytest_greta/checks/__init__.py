"""The float64 judgement of a trace: references, bounds, provenance. Knows nothing of faults."""
