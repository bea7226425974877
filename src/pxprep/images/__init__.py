"""What an image, a cohort, a tree of images and a mask are, and how they are checked."""
