"""matterport's `visualize.*` names, handed on from `mrcnn.drawing`."""

from .drawing.pictures import (
    HEADLESS_BACKENDS as HEADLESS_BACKENDS,
)
from .drawing.pictures import (
    LOSS_NAMES as LOSS_NAMES,
)
from .drawing.pictures import (
    apply_mask as apply_mask,
)
from .drawing.pictures import (
    contact_sheet as contact_sheet,
)
from .drawing.pictures import (
    display_differences as display_differences,
)
from .drawing.pictures import (
    display_images as display_images,
)
from .drawing.pictures import (
    display_instances as display_instances,
)
from .drawing.pictures import (
    display_table as display_table,
)
from .drawing.pictures import (
    display_top_masks as display_top_masks,
)
from .drawing.pictures import (
    display_weight_stats as display_weight_stats,
)
from .drawing.pictures import (
    draw_beside_truth as draw_beside_truth,
)
from .drawing.pictures import (
    draw_box as draw_box,
)
from .drawing.pictures import (
    draw_boxes as draw_boxes,
)
from .drawing.pictures import (
    draw_comparison as draw_comparison,
)
from .drawing.pictures import (
    draw_instances as draw_instances,
)
from .drawing.pictures import (
    draw_result as draw_result,
)
from .drawing.pictures import (
    draw_rois as draw_rois,
)
from .drawing.pictures import (
    plot_history as plot_history,
)
from .drawing.pictures import (
    plot_overlaps as plot_overlaps,
)
from .drawing.pictures import (
    plot_precision_recall as plot_precision_recall,
)
from .drawing.pictures import (
    random_colors as random_colors,
)
