"""The denoising UNet as a search space."""
