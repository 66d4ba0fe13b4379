// The scan and its map in NiiVue. Everything here happens in the user's browser: threshold,
// planes and regions need no request to the server.
"use strict";

const $ = (id) => document.getElementById(id);
const TOP_MARGIN = 0.999; // of the maximum, where the color scale ends
const CUT = [0.02, 235, 18]; // depth, azimuth, elevation of the plane that opens the head
const KINDS = { axial: 0, coronal: 1, sagittal: 2, all: 3, render: 4 };
const LABEL = 1002; // NIfTI's intent of label images
const MEASURED = 10; // the first class that is a structure of its own: the lateral ventricles
const FOR = [[150, 20, 20], [240, 110, 20], [255, 230, 90]]; // as pipeline/rendering/slices.py
const AGAINST = [[30, 60, 170], [60, 140, 240], [150, 230, 255]];
const OUTLINE = [0, 255, 170]; // of the chosen region
const KEYS = { // screen left, up and away: x, y, z in the scan's RAS+ voxels, radiological
  ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 0, 1], ArrowDown: [0, 0, -1],
  PageUp: [0, 1, 0], PageDown: [0, -1, 0] };
const SETTINGS = ["view", "side", "map", "threshold", "opacity", "outlines", "window", "level", "cut"];
const ARRANGING = ["view", "side", "cut"]; // they change no colors
const state = { viewer: null, args: {}, scan: "", overlay: "", atlas: null, measured: null, chosen: 0 };

function post(type, content) {
  window.parent.postMessage({ isStreamlitMessage: true, type: `streamlit:${type}`, ...content }, "*");
}

function resize() {
  post("setFrameHeight", { height: Math.ceil(document.documentElement.getBoundingClientRect().height) });
}

function paint(theme) {
  if (!theme) return;
  const style = document.documentElement.style;
  style.setProperty("--ink", theme.textColor);
  style.setProperty("--page", theme.backgroundColor);
  style.setProperty("--panel", theme.secondaryBackgroundColor);
  style.setProperty("--rule", theme.base === "dark" ? "#41444e" : "#ccd3d8");
  style.setProperty("--accent", theme.primaryColor);
  style.setProperty("color-scheme", theme.base);
  if (theme.font) style.setProperty("--font", theme.font);
}

// The page's fonts, which a frame does not inherit.
function fonts() {
  const rules = [...parent.document.styleSheets].flatMap((sheet) => [...sheet.cssRules].map((rule) => [rule, sheet.href]));
  const own = document.createElement("style");
  own.textContent = rules.filter(([rule]) => rule instanceof parent.CSSFontFaceRule).map(([rule, base]) =>
    rule.cssText.replace(/url\("?([^")]+)"?\)/g, (_, url) => `url("${new URL(url, base || parent.document.baseURI)}")`)).join("\n");
  document.head.append(own);
}

function say(text) {
  $("message").textContent = text;
}

// What a user has set outlives a reload, and the crosshair of a scan with it.
function remember() {
  const set = Object.fromEntries(SETTINGS.map((id) => [id, $(id).type === "checkbox" ? $(id).checked : $(id).value]));
  sessionStorage.setItem("uncus-viewer", JSON.stringify({ set, scan: state.scan, at: state.at }));
}

function recall() {
  const kept = JSON.parse(sessionStorage.getItem("uncus-viewer") || "{}");
  for (const [id, value] of Object.entries(kept.set || {})) $(id)[$(id).type === "checkbox" ? "checked" : "value"] = value;
  return kept;
}

// The page may lie below a path of a proxy's; the files lie beside it.
function address(url) {
  return location.pathname.split("/component/")[0] + url;
}

function fetched(url, options = {}) {
  return niivue.NVImage.loadFromUrl({ url: address(url), name: url.split("/").pop(), ...options });
}

function colors(stops, alpha = 255) {
  return { R: stops.map((c) => c[0]), G: stops.map((c) => c[1]), B: stops.map((c) => c[2]),
    A: stops.map((_, k) => (k ? alpha : 0)), I: stops.map((_, k) => Math.round((255 * k) / (stops.length - 1))) };
}

async function start() {
  const viewer = new niivue.Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [0.35, 0.85, 1, 0.9], crosshairWidth: 0.7, crosshairWidthUnit: "mm",
    crosshairGap: 6, dragAndDropEnabled: false, isRadiologicalConvention: true, isColorbar: false,
    isOrientCube: false, show3Dcrosshair: true, logLevel: "error", loadingText: "", isSliceMM: true,
    fontMinPx: 14, clipPlaneColor: [0, 0, 0, 0], atlasOutline: 1,
    clipPlaneHotKey: "", cycleClipPlaneHotKey: "", viewModeHotKey: "", // the menus show what is set
  });
  await viewer.attachTo("canvas");
  if (!viewer.gl) throw new Error("this browser has no WebGL2");
  viewer.addColormap("for", colors(FOR));
  viewer.addColormap("against", colors(AGAINST));
  viewer.onLocationChange = locate;
  viewer.onIntensityChange = (image) => {
    $("window").value = (image.cal_max - image.cal_min) / 2.55;
    $("level").value = (image.cal_max + image.cal_min) / 5.1;
    outputs();
    remember();
  };
  state.viewer = viewer;
  // One painting per frame, however many changes: without a graphics card it takes seconds.
  let due = 0;
  state.draw = viewer.drawScene.bind(viewer);
  viewer.drawScene = () => {
    due ||= requestAnimationFrame(() => {
      due = 0;
      state.draw();
    });
  };
}

async function open(args) {
  if (!state.viewer) await start();
  const viewer = state.viewer;
  if (args.scan !== state.scan) {
    say("Loading the scan");
    Object.assign(state, { overlay: "", atlas: null, measured: null, map: null, region: null, chosen: 0, at: null, placed: false });
    await viewer.loadVolumes([{ url: address(args.scan), name: "scan.nii.gz", colormap: "gray", ...shades() }]);
    state.scan = args.scan;
    const kept = recall();
    if (kept.scan === args.scan && kept.at) go(kept.at);
  }
  if (args.atlas && !state.atlas) state.atlas = await fetched(args.atlas);
  if (args.measured && !state.measured) {
    state.measured = await fetched(args.measured);
    state.structures = outlined(state.measured, (label) => (label >= MEASURED ? label : 0),
      args.classes.map(([, , color]) => [1, 3, 5].map((k) => parseInt(color.slice(k, k + 2), 16))));
  }
  if (args.overlay !== state.overlay) {
    if (state.map) viewer.removeVolume(state.map);
    state.map = null;
    if (args.overlay) {
      say("Loading the map");
      state.map = await fetched(args.overlay, { colormap: "for" });
      color(state.map);
      viewer.addVolume(state.map);
      if (!state.at && args.peak) go(args.peak);
    }
    state.overlay = args.overlay;
  }
  say(args.waiting || "");
  $("outlines-label").hidden = !state.measured;
  $("strongest").disabled = !args.peak;
  legend(args);
  arrange();
  present(state.structures, $("outlines").checked);
  viewer.createOnLocationChange();
  if (args.overlay) document.body.dataset.ready = args.overlay;
}

// An image of which NiiVue draws the outlines of the labels alone.
function outlined(image, keep, palette) {
  const own = image.clone();
  own.img = Uint8Array.from(image.img, keep);
  Object.assign(own.hdr, { intent_code: LABEL, datatypeCode: 2, numBitsPerVoxel: 8, scl_slope: 1, scl_inter: 0 });
  own.setColormapLabel({ ...colors(palette, 0), I: palette.map((_, k) => k) });
  return own;
}

function present(image, wanted) {
  const viewer = state.viewer;
  const there = viewer.volumes.includes(image);
  if (image && wanted && !there) viewer.addVolume(image);
  if (image && !wanted && there) viewer.removeVolume(image);
}

function outputs() {
  for (const input of document.querySelectorAll("input[type=range]")) input.nextElementSibling.textContent = `${Math.round(input.value)} %`;
}

// The scan's shades that are black and white.
function shades() {
  const width = 2.55 * $("window").value;
  const low = 2.55 * $("level").value - width / 2;
  return { cal_min: low, cal_max: low + width };
}

function color(map) {
  const top = (state.args.top || 1) * TOP_MARGIN;
  const low = Math.max(($("threshold").value / 100) * top, top * 0.01);
  Object.assign(map, {
    colormapType: 1, // from 0 to the top, clear below the threshold
    cal_min: low, cal_max: top, cal_minNeg: -low, cal_maxNeg: -top,
    colormapNegative: state.args.signed ? "against" : "",
    opacity: $("map").checked ? $("opacity").value / 100 : 0,
  });
}

function apply() {
  outputs();
  const { viewer, map } = state;
  if (!viewer || !viewer.volumes.length) return;
  Object.assign(viewer.volumes[0], shades());
  present(state.structures, $("outlines").checked);
  if (map) color(map);
  viewer.updateGLVolume();
}

// Places of the planes and of the 3D view, as fractions of the canvas.
function arrange() {
  const viewer = state.viewer;
  const view = $("view").value;
  const screen = document.querySelector(".screen");
  const width = screen.clientWidth;
  const regions = $("regions");
  const row = view === "all" && width >= 640;
  const planes = Math.min(width / 3, 420);
  const solid = Math.max(300, Math.min(0.34 * width, 420));
  regions.classList.toggle("beside", row);
  regions.style.height = row ? `${solid}px` : "";
  const height = Math.round(row ? planes + solid : Math.min(width, 620));
  screen.style.height = `${height}px`;
  $("cut-label").style.visibility = view === "render" || view === "all" ? "visible" : "hidden";
  if (!viewer || !viewer.volumes.length) return;
  viewer.resizeListener();
  viewer.opts.isRadiologicalConvention = $("side").value === "radiological";
  const part = planes / height;
  const tiles = row
    ? [[0, 0, 1 / 3, part], [1 / 3, 0, 1 / 3, part], [2 / 3, 0, 1 / 3, part], [0, part, regions.hidden ? 1 : 0.5, 1 - part]]
    : [[0, 0, 0.5, 0.5], [0.5, 0, 0.5, 0.5], [0, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]];
  if (view === "all") viewer.setCustomLayout(["axial", "coronal", "sagittal", "render"].map((kind, k) => ({ sliceType: KINDS[kind], position: tiles[k] })));
  else viewer.clearCustomLayout();
  viewer.setSliceType(KINDS[view]);
  viewer.setClipPlane($("cut").checked ? CUT : [2, 0, 0]);
}

// The palette as CSS: clear below the threshold, as in the image.
function legend({ name, signed, overlay }) {
  $("legend").hidden = !overlay;
  const [low, bar, high] = $("legend").children;
  const of = name ? ` ${name}` : "";
  low.textContent = signed ? (name ? `against${of}` : "lowers it") : "weak";
  high.textContent = name ? `for${of}` : signed ? "raises it" : "strong";
  const stops = signed ? [...[...AGAINST].reverse(), [128, 128, 128], ...FOR] : FOR;
  bar.style.background = `linear-gradient(90deg, ${stops.map((c) => `rgb(${c})`).join(", ")})`;
}

function go(mm) {
  state.placed = true;
  const viewer = state.viewer;
  viewer.scene.crosshairPos = viewer.mm2frac(mm);
  viewer.createOnLocationChange();
  viewer.drawScene();
}

function value(image, mm) {
  return image ? image.getValue(...image.mm2vox(mm).slice(0, 3)) : 0;
}

// The region at the crosshair: the atlas' where the scan is registered, or the measured class.
function locate(found) {
  const [x, y, z] = found.mm;
  const mm = [x, y, z];
  if (state.placed) state.at = mm;
  remember();
  const { args } = state;
  const region = (args.regions || []).find((one) => one.label === value(state.atlas, mm));
  const [, measured] = (args.classes || []).find(([label]) => label && label === value(state.measured, mm)) || [];
  const side = (value, names) => `${Math.abs(value).toFixed(0)} mm ${names[value < 0 ? 0 : 1]}`;
  const strength = Math.round((100 * value(state.map, mm)) / (args.top || 1));
  const meaning = args.signed && args.name ? ` ${strength < 0 ? "against" : "for"} ${args.name}` : "";
  const name = document.createElement("b");
  name.textContent = (region && region.region) || measured || (state.atlas || state.measured ? "outside the regions" : "");
  $("position").replaceChildren(name, `${name.textContent ? " · " : ""}${side(x, ["left", "right"])}, ${side(y, ["posterior", "anterior"])}, ${side(z, ["inferior", "superior"])} of the scan's origin`
    + (state.map ? ` · map ${args.name && args.signed ? Math.abs(strength) : strength} %${strength ? meaning : ""}` : ""));
}

function cell(text, kind = "td", scope = "") {
  const own = document.createElement(kind);
  own.textContent = text;
  if (scope) own.scope = scope;
  return own;
}

function line(name, ...cells) {
  const row = document.createElement("tr");
  row.className = name;
  row.append(...cells);
  return row;
}

function list({ regions, signed }) {
  $("regions").hidden = !regions || !regions.length;
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const head = signed ? ["Region", "for", "against"] : ["Region", "share"];
  const table = document.querySelector("table");
  const top = document.createElement("thead");
  top.append(line("", ...head.map((text) => cell(text, "th", "col"))));
  const body = document.createElement("tbody");
  let group = "";
  for (const region of regions || []) {
    if (region.group !== group) {
      group = region.group;
      const title = cell(group, "th", "colgroup");
      title.colSpan = head.length;
      body.append(line("group", title));
    }
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = region.region;
    const name = cell("", "th", "row");
    name.append(button);
    const shares = signed ? [(region.share + region.net) / 2, (region.share - region.net) / 2] : [region.share];
    const row = line("region", name, ...shares.map((share) => cell(percent(share))));
    row.classList.toggle("chosen", region.label === state.chosen);
    row.addEventListener("click", () => choose(region, row));
    body.append(row);
  }
  table.replaceChildren(top, body);
  find();
}

function choose(region, row) {
  if (!state.scan) return;
  document.querySelectorAll(".chosen").forEach((other) => other.classList.remove("chosen"));
  present(state.region, false);
  state.chosen = state.chosen === region.label ? 0 : region.label;
  if (!state.chosen) return void (state.region = null);
  row.classList.add("chosen");
  if (state.atlas) present(state.region = outlined(state.atlas, (label) => Number(label === region.label), [[0, 0, 0], OUTLINE]), true);
  go(region.mm);
}

function find() {
  const wanted = $("search").value.trim().toLowerCase();
  for (const row of document.querySelectorAll(".region")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  for (const row of document.querySelectorAll(".group")) {
    let next = row.nextElementSibling;
    while (next && next.hidden && next.className !== "group") next = next.nextElementSibling;
    row.hidden = !next || next.className === "group";
  }
}

function press(event) {
  const step = KEYS[event.key];
  if (!step || !state.scan) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  state.placed = true;
  const turned = $("side").value === "radiological" ? 1 : -1;
  state.viewer.moveCrosshairInVox(turned * step[0], step[1], step[2]);
}

let queued = new Set(); // settings that changed since the last frame
function changed(event) {
  if (!queued.size) requestAnimationFrame(() => {
    const names = queued;
    queued = new Set();
    remember();
    if (ARRANGING.some((id) => names.has(id))) arrange();
    if ([...names].some((id) => !ARRANGING.includes(id))) apply();
    resize();
  });
  queued.add(event.target.id);
}

let wanted = {}; // the newest arguments; older ones that are still waiting are passed over
let work = Promise.resolve();
function render(event) {
  if (event.data.type !== "streamlit:render") return;
  const args = event.data.args;
  paint(event.data.theme);
  if (JSON.stringify(args) === JSON.stringify(wanted)) return;
  wanted = args;
  if (!args.overlay) delete document.body.dataset.ready;
  work = work.then(async () => {
    if (args !== wanted) return;
    state.args = args;
    if (args.overlay || args.scan !== state.scan) list(args);
    await open(args);
    resize();
  }).catch((error) => {
    say(`The viewer cannot show this scan: ${error.message}. The picture below shows the same.`);
    document.body.dataset.failed = "1";
  });
}

recall();
for (const id of SETTINGS) $(id).addEventListener("input", changed);
$("strongest").addEventListener("click", () => go(state.args.peak));
$("search").addEventListener("input", find);
$("canvas").addEventListener("keydown", press, true);
$("canvas").addEventListener("pointerdown", () => { state.placed = true; }, true);
window.addEventListener("message", render);
new ResizeObserver(() => {
  if (state.width !== document.body.clientWidth) arrange();
  state.width = document.body.clientWidth;
  resize();
}).observe(document.documentElement);
fonts();
arrange();
outputs();
post("componentReady", { apiVersion: 1 });
