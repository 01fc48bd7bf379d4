"""Plain data: configurations, spaces, plans, ledgers; one codec for all."""
