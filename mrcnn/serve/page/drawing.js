// Detections as elements: shapes over the image, tags, and the list. Texts are never HTML.

import { pairs } from "./formats.js";

const SVG = "http://www.w3.org/2000/svg";
const GOLDEN_RATIO = 0.618034;

/** The color of a class; its hue differs clearly from that of the next one. */
export function classColor(id) {
  const hue = Math.round(((id * GOLDEN_RATIO) % 1) * 360);
  return `hsl(${hue} 88% 62%)`;
}

/** How a model's detections look: of a single class, each has its color and needs no name. */
export function lookOf(detection, model) {
  const isOnly = model.class_names.length === 2;
  const score = detection.score.toFixed(2);
  return {
    color: classColor(isOnly ? detection.number : detection.class_id),
    text: isOnly ? score : `${detection.class_name} ${score}`,
    lines: model.keypoint_lines,
  };
}

export function element(name, { text, ...properties } = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** The shapes of one detection: its mask, its box, its keypoints. */
export function detectionShapes(detection, { color, lines }) {
  const [y1, x1, y2, x2] = detection.box;
  const group = shape("g", {});
  if (detection.polygons) {
    const d = detection.polygons.map((polygon) => `M${pairs(polygon).join("L")}Z`).join("");
    group.append(shape("path", { d, fill: color }));
  }
  group.append(
    shape("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, stroke: color }),
    ...keypointShapes(detection.keypoints ?? [], lines, color),
  );
  return group;
}

function keypointShapes(points, lines, color) {
  const line = (a, b, kind) =>
    shape("line", { x1: a[1], y1: a[0], x2: b[1], y2: b[0], stroke: color, class: kind });
  const bones = lines
    .filter(([from, to]) => points[from] && points[to])
    .map(([from, to]) => line(points[from], points[to], "bone"));
  return [...bones, ...points.map((point) => line(point, point, "point"))];
}

/** The tag of a detection, at an upper corner of its box. */
export function detectionTag(detection, { color, text }, width, height) {
  const [y1, x1, , x2] = detection.box;
  const tag = element("span", { text });
  const isNearRight = x1 > width * 0.8;
  if (isNearRight) tag.style.right = `${100 - (100 * x2) / width}%`;
  else tag.style.left = `${(100 * x1) / width}%`;
  tag.style.top = `${(100 * y1) / height}%`;
  tag.style.background = color;
  tag.classList.toggle("inside", y1 < height * 0.04);
  return tag;
}

/** The row of a detection in the list of objects. */
export function detectionRow(detection, { color }) {
  const [y1, x1, y2, x2] = detection.box;
  const size = `${Math.round(x2 - x1)} x ${Math.round(y2 - y1)} px`;
  const row = element(
    "button",
    { type: "button", title: detection.class_name },
    swatch(color),
    element("span", { className: "name", text: detection.class_name }),
    element("span", { className: "size", text: size }),
    element("span", { className: "score", text: detection.score.toFixed(2) }),
  );
  return element("li", {}, row);
}

export function swatch(color) {
  const made = element("span", { className: "swatch" });
  made.style.background = color;
  return made;
}
