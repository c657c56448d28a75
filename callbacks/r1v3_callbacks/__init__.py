"""Callbacks for any LightningModule; this package imports torch and lightning only."""
