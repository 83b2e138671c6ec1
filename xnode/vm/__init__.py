"""Virtual machines: drivers, images, seeds, SSH keys. The only room that knows QEMU and Lima."""
