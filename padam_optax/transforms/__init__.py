"""The core: Optax transformations, one method a file. They need jax and optax only."""
