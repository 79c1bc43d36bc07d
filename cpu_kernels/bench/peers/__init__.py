"""Other libraries' decode attention, each in a file of its own behind a late import."""
