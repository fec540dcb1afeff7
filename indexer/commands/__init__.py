"""The command line, one file a command: options in, printed lines out."""
