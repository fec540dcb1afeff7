"""Where units are embedded: in this process (`local`), or by actors on many machines (`ray_engine`)."""
