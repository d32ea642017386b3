"""Models: where weights and tokens come from, and the decoder that runs them around an attention library."""
