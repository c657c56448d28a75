"""Completions of prompts: the engines that draw them."""
