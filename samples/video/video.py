"""Detections on a video file or a camera, with the frames per second it takes.

python samples/video/video.py --weights FILE --source street.mp4 --out found.mp4
python samples/video/video.py --weights FILE --source 0 --out camera.mp4      (Ctrl-C ends it)
"""

import argparse
import time

import cv2

from mrcnn import visualize
from mrcnn.app import cli_support, video


def annotate(model, class_names):
    """A function that draws a frame's detections, and the frames per second of the last second or so, on it."""
    times = []

    def draw(frame):
        found = model.detect([frame])[0]
        picture = visualize.draw_instances(
            frame, found["rois"], found["masks"], found["class_ids"], class_names, found["scores"]
        )
        times.append(time.perf_counter())
        del times[:-10]
        if len(times) > 1:
            text = f"{(len(times) - 1) / (times[-1] - times[0]):.1f} frames/s"
            size = picture.shape[0] / 700
            for color, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
                cv2.putText(
                    picture,
                    text,
                    (8, int(32 * size) + 8),
                    cv2.FONT_HERSHEY_SIMPLEX,
                    size,
                    color,
                    width,
                )
        return picture

    return draw


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", metavar="FILE", required=True, help="a weight file of this package"
    )
    parser.add_argument("--source", required=True, help="a video file, or a camera's number")
    parser.add_argument(
        "--out",
        metavar="FILE",
        default="detections.mp4",
        help=".mp4 or .avi to write (default: detections.mp4)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="stop after so many frames")
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
    count, rate = video.change_video(source, args.out, annotate(model, class_names), args.limit)
    print(f"{count} frames, {rate:.2f} a second: {args.out}")


if __name__ == "__main__":
    cli_support.run_script(main)
