"""Detection in very many images by several processes or machines: `mrcnn detect-many`."""
