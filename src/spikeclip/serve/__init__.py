"""A model behind HTTP: an API and a page. Needs no PyTorch (extra `serve`)."""
