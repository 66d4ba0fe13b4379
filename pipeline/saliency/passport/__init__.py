"""The saliency passport of a run: which methods' maps rest on what its networks learned."""
