"""What people read: the terminal summary, the Markdown report, TSV and JSON, in Spanish and English."""
