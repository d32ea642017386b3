"""``greta doctor``: what of this machine a run would find. Facts are gathered, judged and shown apart."""
