"""The compute processes: forked, fed, watched, replaced; and the pool that they are."""
