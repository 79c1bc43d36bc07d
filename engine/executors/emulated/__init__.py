"""Real threads, KV memory and CPU attention; a GPU lane that takes as long as the modelled GPU."""
