"""Evidence on whether a score predicts, and the verdict: for models and health scores alike."""
