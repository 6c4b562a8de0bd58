"""The part of training that serving loads: bundle, predictors, encoder, reasons, bands."""
