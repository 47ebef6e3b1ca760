// Detections as elements: shapes over the image, tags, and the list. Texts are never HTML.

import { pairs } from "./formats.js";

const SVG = "http://www.w3.org/2000/svg";
const GOLDEN_RATIO = 0.618034;

/** The color of a class: the hues of the server's own drawings. */
export function classColor(id) {
  const hue = Math.round(((id * GOLDEN_RATIO) % 1) * 360);
  return `hsl(${hue} 88% 62%)`;
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
export function detectionShapes(detection, lines) {
  const color = classColor(detection.class_id);
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

/** The tag of a detection, at the upper left corner of its box. */
export function detectionTag(detection, width, height) {
  const [y1, x1] = detection.box;
  const tag = element("span", { text: `${detection.class_name} ${detection.score.toFixed(2)}` });
  tag.style.left = `${(100 * x1) / width}%`;
  tag.style.top = `${(100 * y1) / height}%`;
  tag.style.background = classColor(detection.class_id);
  tag.classList.toggle("inside", y1 < height * 0.04);
  return tag;
}

/** The row of a detection in the list of objects. */
export function detectionRow(detection) {
  const [y1, x1, y2, x2] = detection.box;
  const size = `${Math.round(x2 - x1)} x ${Math.round(y2 - y1)} px`;
  const row = element(
    "button",
    { type: "button", title: detection.class_name },
    swatch(detection.class_id),
    element("span", { className: "name", text: detection.class_name }),
    element("span", { className: "size", text: size }),
    element("span", { className: "score", text: detection.score.toFixed(2) }),
  );
  return element("li", {}, row);
}

export function swatch(classId) {
  const made = element("span", { className: "swatch" });
  made.style.background = classColor(classId);
  return made;
}
