"""Parts of which detection networks are made: boxes, anchors, layers, losses."""
