"""Device constants of GPUs and hosts: TOML files where each value carries its source."""
