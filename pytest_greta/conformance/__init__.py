"""``greta backend check``: does a library keep the C ABI, whatever it does instead?

The way of the data: ``cases`` (what is tried) -> ``server`` (each case ``apart``, in a process of its own that alone
loads the library) -> ``run`` (what became of each) -> ``table``. ``bench`` makes a case's calls, in ``guarded`` memory;
``attended`` looks at what an attention wrote.
"""
