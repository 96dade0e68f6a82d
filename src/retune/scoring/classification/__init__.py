"""Classification scores: labels out of texts or likelihoods, figures, baselines, comparisons."""
