"""The submission ledger: append adds rows, read cannot write, chain verifies."""
