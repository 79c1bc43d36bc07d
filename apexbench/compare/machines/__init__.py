"""What comparisons run on: modelled, emulated and real machines, and which options go with them."""
