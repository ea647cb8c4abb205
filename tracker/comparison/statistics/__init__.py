"""Arrays in, numbers out: paired bootstrap, regression, ranks. Knows no run and no ledger."""
