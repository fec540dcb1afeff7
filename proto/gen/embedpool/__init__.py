"""Generated messages and stubs of the embedpool wire."""
