"""Bringing replies to those who make them."""
