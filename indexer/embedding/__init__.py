"""The road of rows through pools into committed units."""
