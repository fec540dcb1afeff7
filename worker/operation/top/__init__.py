"""`python -m worker top`: what running servers do, as it changes; it asks them for their statistics alone."""
