"""The pairs (English, Spanish) of ``pytest_greta.texts``, a module a domain."""
