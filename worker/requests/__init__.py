"""From texts that a wire read to the scheduler, and back to their outcome."""
