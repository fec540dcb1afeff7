"""Who runs next, and who is let in. All but the texts' way back to their caller is pure."""
