"""Students of a trained diffusion UNet that differ from it block by block."""
