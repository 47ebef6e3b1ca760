"""Draw detections on a video file or a camera, with the frames per second.

python samples/video/video.py --weights FILE --source street.mp4 --out found.mp4
python samples/video/video.py --weights FILE --source 0 --out camera.mp4      (Ctrl-C ends it)
"""

import argparse
import time
from collections import deque

import cv2

from mrcnn import visualize
from mrcnn.app import cli_support, video

FRAMES_FOR_RATE = 10


def annotate(model, class_names):
    """A function that draws detections and the recent frames per second on a frame."""
    times = deque(maxlen=FRAMES_FOR_RATE)

    def draw(frame):
        found = model.detect([frame])[0]
        drawn = visualize.draw_instances(
            frame, found["rois"], found["masks"], found["class_ids"], class_names, found["scores"]
        )
        times.append(time.perf_counter())
        if len(times) > 1:
            rate = (len(times) - 1) / (times[-1] - times[0])
            write_outlined(drawn, f"{rate:.1f} frames/s")
        return drawn

    return draw


def write_outlined(image, text):
    """Write white text with a black outline in the upper left corner."""
    size = image.shape[0] / 700
    where = (8, int(32 * size) + 8)
    for color, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(image, text, where, cv2.FONT_HERSHEY_SIMPLEX, size, color, width)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights",
        metavar="FILE|NAME",
        required=True,
        help="a weight file of this package, or a name that `mrcnn weights` lists",
    )
    parser.add_argument("--source", required=True, help="a video file, or a camera's number")
    parser.add_argument(
        "--out",
        metavar="FILE",
        default="detections.mp4",
        help=".mp4 or .avi to write (default: detections.mp4)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N frames")
    parser.add_argument(
        "--config",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings, e.g. a smaller image",
    )
    args = parser.parse_args()
    model, class_names = cli_support.load_for_use(args.weights, args.config)
    source = int(args.source) if args.source.isdigit() else args.source
    written = video.change_video(source, args.out, annotate(model, class_names), args.limit)
    print(f"{written.frames} frames, {written.rate:.2f} per second: {args.out}")


if __name__ == "__main__":
    cli_support.run_script(main)
