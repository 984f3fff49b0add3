"""The demo: the main job on real files, with misbehaving jobs planted among them."""
