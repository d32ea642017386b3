"""``greta selftest``: does the detector find what is planted, and is it silent where nothing is?"""
