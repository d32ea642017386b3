"""Models of the library transformers, run by their own forward pass: what is traced, and what is declared of it.

``families.py`` says where each stage is in a model's modules; ``watch.py`` taps them by hooks, by the attention
interface (``attention.py``) and by the cache's ``update``; ``run.py`` makes the four paths. No code of a model is
changed. This package imports transformers, and ``pytorch`` torch, inside functions.
"""
