"""The real model with torch on the CPU as its GPU lane, and the C kernels as its CPU lane."""
