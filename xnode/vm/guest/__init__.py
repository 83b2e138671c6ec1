"""What runs inside the guests, and how their images are built."""
