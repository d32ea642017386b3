"""The narrow waist: whatever can produce a ``Trace`` gets the same checks, verdicts and reports."""
