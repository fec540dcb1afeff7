"""Every setting of the server: what there is, where values come from, how they are shown."""
