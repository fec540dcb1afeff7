"""The protocols that callers speak; each maps onto the frontend and onto one table of statuses."""
