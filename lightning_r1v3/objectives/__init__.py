"""Pure torch: what is minimised, as functions of tensors."""
