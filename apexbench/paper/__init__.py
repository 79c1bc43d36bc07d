"""The page that holds the APEX paper's claims against the simulator; makes no engine of its own."""
