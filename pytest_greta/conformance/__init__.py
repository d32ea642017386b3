"""``greta backend check``: does a library keep the C ABI, whatever it does instead?

The way of the data: ``cases`` (what is tried) -> ``server`` (a process of its own for each case, which alone loads the
library) -> ``run`` (what became of each) -> ``table``. ``bench`` holds a case's calls and ``guarded`` their memory.
"""
