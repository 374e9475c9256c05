"""Configurations, baselines and reports: what a data scientist runs."""
