"""A text-to-image pipeline around `WordEncoder`, with the calls of Stable Diffusion's. Saved with the teacher."""

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput


class WordsToImage(DiffusionPipeline):
    """Denoise latents under a text, and decode them."""

    def __init__(self, vae, text_encoder, unet, scheduler) -> None:
        super().__init__()
        self.register_modules(vae=vae, text_encoder=text_encoder, unet=unet, scheduler=scheduler)

    def encode_prompt(self, prompt, device=None, num_images_per_prompt=1, do_classifier_free_guidance=False):
        """Encoded texts, and nothing for the negative ones."""
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        return self.text_encoder(texts).repeat_interleave(num_images_per_prompt, 0), None

    @torch.no_grad()
    def __call__(self, prompt, num_inference_steps=10, generator=None, output_type="pil"):
        """Images of the prompts."""
        condition, _ = self.encode_prompt(prompt)
        config = self.unet.config
        shape = (len(condition), config.in_channels, config.sample_size, config.sample_size)
        latents = torch.randn(shape, generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        for time in self.scheduler.timesteps:
            prediction = self.unet(latents, time, encoder_hidden_states=condition).sample
            latents = self.scheduler.step(prediction, time, latents).prev_sample
        images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        images = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        return ImagePipelineOutput(images=self.numpy_to_pil(images) if output_type == "pil" else images)
