"""Encoders: each turns one modality of a batch of cases into tokens (B, N, F) with a mask of the real ones (B, N)."""
