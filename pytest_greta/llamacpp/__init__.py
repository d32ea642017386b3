"""Models that llama.cpp runs, with its own kernels and its own cache: ``llamacpp:PATH.gguf``.

``library`` is the part of its C interface that is used, ``context`` a model with a cache, ``state`` the rows in a saved
state, ``watch`` what is seen while it computes, ``numerics`` what it rounds, ``run`` the paths, ``load`` the model.
"""
