"""``greta remote``: pytest on another machine over the user's own ssh, and its results brought home."""
