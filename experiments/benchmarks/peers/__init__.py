"""What our ways are measured against, each as its users would write it."""
