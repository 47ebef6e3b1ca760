// What the page writes: the shown detections as JSON, as COCO's and as labelme's file.
// The server's formats=coco and formats=labelme write the same; tests/serve/test_page.py compares.

const LABELME_VERSION = "5.5.0";
const CENTER = 0.5; // COCO counts keypoints from the center of the first pixel

/** The entry of an image with the detections of at least this score, of classes that are shown. */
export function shownEntry(entry, confidence, hiddenClasses) {
  const isShown = (one) => one.score >= confidence && !hiddenClasses.has(one.class_name);
  return { ...entry, detections: entry.detections.filter(isShown) };
}

/** The answer of the server, without the polygons that repeat the masks. */
export function toJson(model, confidence, entries) {
  const images = entries.map((entry) => ({
    ...entry,
    detections: entry.detections.map(({ polygons, number, ...rest }) => rest),
  }));
  return { model: model.name, min_confidence: confidence, class_names: model.class_names, images };
}

/** COCO's instances file of all images. */
export function toCoco(model, entries) {
  const keypoints = categoryKeypoints(model);
  const categories = model.class_names.slice(1).map((name, i) => ({ id: i + 1, name, ...keypoints }));
  const images = entries.map((entry, i) => ({
    id: i + 1,
    file_name: entry.file_name,
    height: entry.height,
    width: entry.width,
  }));
  const annotations = entries.flatMap((entry, i) =>
    entry.detections.map((detection) => cocoAnnotation(detection, i + 1)),
  );
  annotations.forEach((annotation, i) => (annotation.id = i + 1));
  return { images, annotations, categories };
}

function categoryKeypoints(model) {
  if (model.keypoint_names.length === 0) return {};
  const skeleton = model.keypoint_lines.map((line) => line.map((end) => end + 1));
  return { keypoints: model.keypoint_names, skeleton };
}

function cocoAnnotation(detection, imageId) {
  const [y1, x1, y2, x2] = detection.box;
  const annotation = {
    image_id: imageId,
    category_id: detection.class_id,
    bbox: [x1, y1, x2 - x1, y2 - y1],
    score: detection.score,
    area: (x2 - x1) * (y2 - y1),
    iscrowd: 0,
  };
  if (detection.mask) {
    annotation.segmentation = detection.mask;
    annotation.area = detection.polygons.reduce((sum, polygon) => sum + polygonArea(polygon), 0);
  }
  if (detection.keypoints) {
    annotation.keypoints = detection.keypoints.flatMap(([y, x]) => [x - CENTER, y - CENTER, 2]);
    annotation.keypoint_scores = detection.keypoints.map((point) => point[2]);
    annotation.num_keypoints = detection.keypoints.length;
  }
  return annotation;
}

/** The area of a polygon [x1, y1, x2, y2, ...]: that of its mask, because it follows the pixels. */
export function polygonArea(polygon) {
  let twice = 0;
  for (let i = 0; i < polygon.length; i += 2) {
    const j = (i + 2) % polygon.length;
    twice += polygon[i] * polygon[j + 1] - polygon[j] * polygon[i + 1];
  }
  return Math.abs(twice) / 2;
}

/** labelme's file of one image. */
export function toLabelme(entry) {
  return {
    version: LABELME_VERSION,
    flags: {},
    shapes: entry.detections.flatMap(labelmeShapes),
    imagePath: entry.file_name,
    imageData: null,
    imageHeight: entry.height,
    imageWidth: entry.width,
  };
}

function labelmeShapes(detection, index) {
  const [y1, x1, y2, x2] = detection.box;
  const isBox = !detection.polygons;
  const parts = isBox ? [[x1, y1, x2, y2]] : detection.polygons;
  return parts.map((part) => ({
    label: detection.class_name,
    points: pairs(part),
    group_id: parts.length > 1 ? index : null,
    description: "",
    shape_type: isBox ? "rectangle" : "polygon",
    flags: {},
    mask: null,
    score: detection.score,
  }));
}

export function pairs(flat) {
  const points = [];
  for (let i = 0; i < flat.length; i += 2) points.push([flat[i], flat[i + 1]]);
  return points;
}
