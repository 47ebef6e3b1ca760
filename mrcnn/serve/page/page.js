// The page of mrcnn serve: images in, detections drawn, filtered and downloaded.

import { ask } from "./client.js";
import {
  classColor,
  detectionRow,
  detectionShapes,
  detectionTag,
  element,
  lookOf,
  swatch,
} from "./drawing.js";
import { shownEntry, toCoco, toJson, toLabelme } from "./formats.js";

const PARALLEL = 2; // requests at once
const BADGES = { waiting: "...", detecting: "...", failed: "error" };
const MANY = 40; // objects, from which on tags are small
const MAGNIFIED = 3; // from this factor on pixels stay sharp

const $ = (id) => document.getElementById(id);

const state = {
  models: [],
  model: null,
  items: [], // {file, url, status: waiting | detecting | done | failed, entry}
  current: null,
  hiddenClasses: new Set(),
  running: 0,
};

// --- Start ---

async function start() {
  listen();
  try {
    const { models, limits } = await (await ask("/v1/models", {}, askToken)).json();
    state.models = models;
    const sizes = `${Math.round(limits.bytes / 2 ** 20)} MB, ${Math.round(limits.pixels / 1e6)} megapixels`;
    $("limits").textContent = `JPEG, PNG, TIFF, WebP and others, up to ${sizes} each`;
    $("model").replaceChildren(...models.map(({ name }) => element("option", { text: name, value: name })));
    document.querySelector(".model").hidden = models.length < 2;
    useModel(models[0]);
  } catch (error) {
    showError("mrcnn", error.message);
  }
}

function listen() {
  for (const input of [$("files"), $("more-files")]) {
    input.addEventListener("change", () => {
      add(input.files);
      input.value = "";
    });
  }
  document.addEventListener("paste", (event) => add(event.clipboardData.files));
  document.addEventListener("dragover", (event) => dragged(event, true));
  document.addEventListener("dragleave", (event) => dragged(event, event.relatedTarget !== null));
  document.addEventListener("drop", (event) => {
    dragged(event, false);
    add(event.dataTransfer.files);
  });
  $("model").addEventListener("change", (event) => {
    useModel(state.models.find(({ name }) => name === event.target.value));
  });
  $("confidence").addEventListener("input", showDetections);
  $("all-classes").addEventListener("click", () => hideClasses([]));
  $("no-classes").addEventListener("click", () => hideClasses(state.model.class_names));
  for (const part of ["masks", "boxes"]) {
    $(`show-${part}`).addEventListener("change", (event) =>
      $("overlay").classList.toggle(`no-${part}`, !event.target.checked),
    );
  }
  $("show-labels").addEventListener("change", (event) => ($("tags").hidden = !event.target.checked));
  $("clear").addEventListener("click", removeAll);
  $("thumbnails").addEventListener("keydown", moveAlongStrip);
  $("image").addEventListener("error", showPreview);
  $("download-json").addEventListener("click", () =>
    download("detections.json", toJson(state.model, confidence(), shownEntries())),
  );
  $("download-coco").addEventListener("click", () => download("coco.json", toCoco(state.model, shownEntries())));
  $("download-labelme").addEventListener("click", downloadLabelme);
}

function dragged(event, isOver) {
  event.preventDefault();
  document.body.classList.toggle("dragging", isOver);
}

function useModel(model) {
  state.model = model;
  state.hiddenClasses = new Set();
  $("version").textContent = state.models.length < 2 ? `${model.name} ${model.version}` : model.version;
  $("confidence").min = model.lowest_score;
  $("confidence").value = model.min_confidence;
  for (const item of state.items) {
    item.status = "waiting";
    item.entry = null;
  }
  show();
  detectNext();
}

function askToken() {
  const dialog = $("token-dialog");
  return new Promise((resolve) => {
    if (!dialog.open) dialog.showModal();
    dialog.addEventListener("close", () => resolve($("token").value.trim()), { once: true });
  });
}

// --- Images ---

function add(files) {
  const items = [...files].map((file) => ({
    file,
    url: URL.createObjectURL(file),
    status: "waiting",
    entry: null,
  }));
  if (items.length === 0) return;
  state.items.push(...items);
  state.current = items[0];
  show();
  detectNext();
}

function removeAll() {
  for (const item of state.items) URL.revokeObjectURL(item.url);
  state.items = [];
  state.current = null;
  $("errors").replaceChildren();
  show();
  $("files").focus();
}

async function detectNext() {
  const item = state.items.find(({ status }) => status === "waiting");
  if (!item || state.running >= PARALLEL) return;
  state.running += 1;
  item.status = "detecting";
  detectNext();
  const model = state.model;
  try {
    const path = `/v1/detect?${new URLSearchParams({ model: model.name, masks: "both", min_confidence: 0 })}`;
    const answer = await (await ask(path, { method: "POST", body: form(item.file) }, askToken)).json();
    const [entry] = answer.images;
    entry.detections.forEach((detection, i) => (detection.number = i));
    if (model === state.model) finish(item, "done", entry);
  } catch (error) {
    finish(item, "failed", null);
    if (state.items.includes(item)) showError(item.file.name, error.message);
  }
  state.running -= 1;
  detectNext();
}

function finish(item, status, entry) {
  item.status = status;
  item.entry = entry;
  if (!state.items.includes(item)) return; // it was removed meanwhile
  if (entry) {
    $("status").textContent = `${item.file.name}: ${counted(shown(item).detections.length)}`;
  }
  show();
}

function form(file) {
  const body = new FormData();
  body.append("image", file, file.name);
  return body;
}

/** Show an image that the browser cannot read, such as TIFF, as the server reads it. */
async function showPreview() {
  const item = state.current;
  if (!item || item.hasPreview || item.status === "failed") return;
  item.hasPreview = true;
  try {
    const path = `/v1/preview?${new URLSearchParams({ model: state.model.name })}`;
    const answer = await ask(path, { method: "POST", body: form(item.file) }, askToken);
    item.url = URL.createObjectURL(await answer.blob());
    show();
  } catch {
    // The detection of the same file says why it cannot be read.
  }
}

function showError(name, sentence) {
  const close = element("button", { type: "button", className: "small", text: "Dismiss" });
  const text = element("p", {}, element("strong", { text: name }), ` ${sentence}`);
  const card = element("div", { className: "error" }, text, close);
  close.addEventListener("click", () => card.remove());
  $("errors").append(card);
}

// --- What is shown ---

const confidence = () => Number($("confidence").value);
const shown = (item) => shownEntry(item.entry, confidence(), state.hiddenClasses);
const shownEntries = () => state.items.filter(({ entry }) => entry).map(shown);
const counted = (count) => `${count} ${count === 1 ? "object" : "objects"}`;

function show() {
  const item = state.current;
  $("empty").hidden = item !== null;
  $("figure").hidden = item === null;
  $("strip").hidden = item === null;
  showThumbnails();
  if (item) showImage(item);
  showClasses();
  showDetections();
}

function showImage(item) {
  const image = $("image");
  if (image.src !== item.url) {
    image.src = item.url;
    if (!item.entry) image.decode().then(() => fit(image.naturalWidth, image.naturalHeight), () => {});
  }
  image.alt = item.file.name;
  if (item.entry) fit(item.entry.width, item.entry.height);
  $("working").hidden = !["waiting", "detecting"].includes(item.status);
}

/** Let the image be as large as the window allows; shapes are in its pixels. */
function fit(width, height) {
  const canvas = $("canvas");
  canvas.style.aspectRatio = `${width} / ${height}`;
  // The figure's width, or its height less that of the caption.
  canvas.style.width = `min(100cqw, calc((100cqh - 2.2rem) * ${width / height}))`;
  canvas.classList.toggle("magnified", canvas.clientWidth >= MAGNIFIED * width);
  $("overlay").setAttribute("viewBox", `0 0 ${width} ${height}`);
}

/** Items are only added, or removed all at once; a row that is kept keeps the focus. */
function showThumbnails() {
  const list = $("thumbnails");
  if (state.items.length === 0) list.replaceChildren();
  for (const item of state.items.slice(list.children.length)) list.append(newThumbnail(item));
  state.items.forEach(updateThumbnail);
}

function newThumbnail(item) {
  const button = element(
    "button",
    { type: "button", title: item.file.name },
    element("img", { alt: "" }),
    element("span", { className: "badge" }),
  );
  button.addEventListener("click", () => select(item));
  item.button = button;
  return element("li", {}, button);
}

function updateThumbnail(item) {
  const [image, badge] = item.button.children;
  if (image.src !== item.url) image.src = item.url;
  const count = item.entry ? shown(item).detections.length : 0;
  const spoken = item.entry ? counted(count) : item.status;
  badge.textContent = item.entry ? String(count) : BADGES[item.status];
  item.button.className = item.status;
  item.button.setAttribute("aria-label", `${item.file.name}, ${spoken}`);
  item.button.setAttribute("aria-current", String(item === state.current));
}

function select(item) {
  state.current = item;
  show();
}

function moveAlongStrip(event) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const next = state.items[state.items.indexOf(state.current) + step];
  if (!next) return;
  event.preventDefault();
  select(next);
  next.button.focus();
}

function showClasses() {
  const counts = new Map();
  for (const { class_name: name } of state.current?.entry?.detections ?? []) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const names = state.model?.class_names.slice(1) ?? [];
  // Those of the image come first: a model may know hundreds.
  const sorted = names.map((name, i) => ({ name, id: i + 1, count: counts.get(name) ?? 0 }));
  sorted.sort((a, b) => (b.count > 0) - (a.count > 0) || a.id - b.id);
  $("classes").replaceChildren(...sorted.map(classToggle));
}

function classToggle({ name, id, count }) {
  const box = element("input", { type: "checkbox", checked: !state.hiddenClasses.has(name) });
  box.addEventListener("change", () => {
    if (box.checked) state.hiddenClasses.delete(name);
    else state.hiddenClasses.add(name);
    showDetections();
  });
  const label = element("label", {}, box, swatch(classColor(id)), element("span", { className: "name", text: name }));
  if (count) label.append(element("span", { className: "count", text: String(count) }));
  return element("li", {}, label);
}

function hideClasses(names) {
  state.hiddenClasses = new Set(names);
  showClasses();
  showDetections();
}

function showDetections() {
  const item = state.current;
  $("confidence-value").textContent = confidence().toFixed(2);
  const entry = item?.entry ? shown(item) : { detections: [], width: 1, height: 1 };
  const parts = entry.detections.map((detection) => {
    const look = lookOf(detection, state.model);
    return {
      shape: detectionShapes(detection, look),
      tag: detectionTag(detection, look, entry.width, entry.height),
      row: detectionRow(detection, look),
    };
  });
  parts.forEach((part) => connect(part));
  // The best detection is drawn last, above the others.
  $("overlay").replaceChildren(...parts.map(({ shape }) => shape).reverse());
  $("tags").classList.toggle("many", parts.length > MANY);
  $("tags").replaceChildren(...parts.map(({ tag }) => tag).reverse());
  $("objects").replaceChildren(...parts.map(({ row }) => row));
  showCounts(item, entry);
}

function showCounts(item, entry) {
  const total = item?.entry?.detections.length;
  $("shown").textContent = total === undefined ? "" : `${entry.detections.length} of ${counted(total)} shown`;
  $("caption").textContent = caption(item, entry);
  state.items.filter(({ button }) => button).forEach(updateThumbnail);
  const isEmpty = shownEntries().length === 0;
  $("download-json").disabled = $("download-coco").disabled = isEmpty;
  $("download-labelme").disabled = !item?.entry;
}

function caption(item, entry) {
  if (!item) return "";
  if (!item.entry) return item.file.name;
  return `${item.file.name}, ${entry.width} x ${entry.height} pixels, ${counted(entry.detections.length)}`;
}

/** Let the parts of a detection light up together. */
function connect({ shape, tag, row }) {
  const button = row.firstChild;
  const light = (isOn) => {
    for (const one of [shape, tag, button]) one.classList.toggle("active", isOn);
    for (const id of ["overlay", "tags"]) $(id).classList.toggle("has-active", isOn);
  };
  for (const one of [shape, button]) {
    one.addEventListener("pointerenter", () => light(true));
    one.addEventListener("pointerleave", () => light(false));
  }
  button.addEventListener("focus", () => light(true));
  button.addEventListener("blur", () => light(false));
  shape.addEventListener("click", () => button.focus());
}

// --- Downloads ---

function downloadLabelme() {
  const { file } = state.current;
  const stem = file.name.replace(/\.[^.]*$/, "");
  download(`${stem}.json`, toLabelme(shown(state.current)));
}

function download(name, content) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(content)], { type: "application/json" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

start();
