from small_training import config, one_thread, pictures_once, prepared, recipe, root, run  # noqa: F401
