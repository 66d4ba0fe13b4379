// The scan and its map in NiiVue. Everything here happens in the user's browser: threshold,
// colors and planes need no request to the server.
"use strict";

const $ = (id) => document.getElementById(id);
const TOP_MARGIN = 0.999; // of the maximum, where the color scale ends
const NEGATIVE = { warm: "winter", inferno: "winter", viridis: "electric_blue", blue: "warm", green: "electric_blue" };
const CUT = [0.02, 235, 18]; // depth, azimuth, elevation of the plane that opens the head
const state = { viewer: null, scan: "", overlay: "", top: 1, signed: false };

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
  style.setProperty("--panel", theme.secondaryBackgroundColor);
  style.setProperty("--rule", theme.base === "dark" ? "#41444e" : "#ccd3d8");
  style.setProperty("--accent", theme.primaryColor);
  style.setProperty("color-scheme", theme.base);
  if (theme.font) style.setProperty("--font", theme.font);
}

function say(text) {
  $("message").textContent = text;
}

// The page may lie below a path of a proxy's; the files lie beside it.
function address(url) {
  return location.pathname.split("/component/")[0] + url;
}

async function open(args) {
  if (!state.viewer) {
    const viewer = new niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [0.35, 0.85, 1, 0.9], crosshairWidth: 0.7,
      crosshairGap: 6, dragAndDropEnabled: false, isRadiologicalConvention: true, isColorbar: false,
      isOrientCube: false, show3Dcrosshair: true, multiplanarShowRender: 1, multiplanarLayout: 2,
      multiplanarEqualSize: false, logLevel: "error", loadingText: "", isSliceMM: true,
      fontMinPx: 14, clipPlaneColor: [0, 0, 0, 0],
    });
    await viewer.attachTo("canvas");
    if (!viewer.gl) throw new Error("this browser has no WebGL2");
    viewer.onLocationChange = locate;
    state.viewer = viewer;
  }
  const viewer = state.viewer;
  if (args.scan !== state.scan) {
    say("Loading the scan");
    await viewer.loadVolumes([{ url: address(args.scan), name: "scan.nii.gz", colormap: "gray" }]);
    state.scan = args.scan;
    state.overlay = "";
  }
  if (args.overlay !== state.overlay) {
    while (viewer.volumes.length > 1) viewer.removeVolumeByIndex(1);
    const map = await niivue.NVImage.loadFromUrl({
      url: address(args.overlay), name: "map.nii.gz", colormap: $("colours").value, opacity: 0.65 });
    viewer.addVolume(map);
    state.overlay = args.overlay;
    state.top = args.top || 1;
    state.signed = args.signed;
    state.label = args.label;
    if (args.peak) go(args.peak);
  }
  say("");
  apply();
  document.body.dataset.ready = args.overlay;
}

function apply() {
  const viewer = state.viewer;
  const share = Number($("threshold").value) / 100;
  const opacity = Number($("opacity").value) / 100;
  $("threshold-value").textContent = `${$("threshold").value} %`;
  $("opacity-value").textContent = `${$("opacity").value} %`;
  if (!viewer || viewer.volumes.length < 2) return;
  const map = viewer.volumes[1];
  const top = state.top * TOP_MARGIN;
  if (map.colormap !== $("colours").value) map.colormap = $("colours").value; // resets what follows
  map.colormapType = 1; // from 0 to the top, clear below the threshold
  map.cal_min = Math.max(share * top, top * 0.01);
  map.cal_max = top;
  map.cal_minNeg = -map.cal_min;
  map.cal_maxNeg = -top;
  map.opacity = opacity;
  map.colormapNegative = state.signed ? NEGATIVE[$("colours").value] : "";
  viewer.opts.isRadiologicalConvention = $("side").value === "radiological";
  const kinds = { axial: 0, coronal: 1, sagittal: 2, all: 3, render: 4 };
  viewer.opts.multiplanarLayout = $("canvas").clientWidth > 2.1 * $("canvas").clientHeight ? 3 : 2;
  viewer.setSliceType(kinds[$("view").value]);
  const solid = $("view").value === "render" || $("view").value === "all";
  $("cut-label").style.visibility = solid ? "visible" : "hidden";
  viewer.setClipPlane($("cut").checked ? CUT : [2, 0, 0]);
  viewer.updateGLVolume();
}

function go(mm) {
  const viewer = state.viewer;
  viewer.scene.crosshairPos = viewer.mm2frac(mm);
  viewer.createOnLocationChange();
  viewer.drawScene();
}

function locate(found) {
  const [x, y, z] = found.mm;
  const side = (value, names) => `${Math.abs(value).toFixed(0)} mm ${names[value < 0 ? 0 : 1]}`;
  const value = found.values && found.values[1] ? found.values[1].value : null;
  const strength = value === null ? "" : `; the map there: ${Math.round((100 * value) / state.top)} % of its maximum`;
  $("position").textContent =
    `Crosshair: ${side(x, ["left", "right"])}, ${side(y, ["posterior", "anterior"])}, ${side(z, ["inferior", "superior"])} of the scan's origin${strength}`;
}

function list(regions) {
  const section = $("regions");
  const known = regions.length > 0;
  section.hidden = !known;
  const body = section.querySelector("tbody");
  body.replaceChildren(...regions.map((region) => {
    const row = document.createElement("tr");
    const name = document.createElement("td");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = region.region;
    name.append(button);
    const share = document.createElement("td");
    share.textContent = `${(100 * region.saliency_share).toFixed(1)} %`;
    row.append(name, share);
    row.addEventListener("click", () => {
      body.querySelectorAll(".chosen").forEach((other) => other.classList.remove("chosen"));
      row.classList.add("chosen");
      go(region.mm);
    });
    return row;
  }));
}

let listed = "";
let wanted = {}; // the newest arguments; older ones that are still waiting are passed over
let work = Promise.resolve();
function render(event) {
  if (event.data.type !== "streamlit:render") return;
  const args = event.data.args;
  paint(event.data.theme);
  const regions = JSON.stringify(args.regions);
  if (regions !== listed) {
    listed = regions;
    list(args.regions || []);
  }
  resize();
  if (args.overlay === wanted.overlay && args.scan === wanted.scan) return;
  wanted = args;
  work = work.then(() => (args === wanted ? open(args) : null)).catch((error) => {
    say(`The viewer cannot show this scan: ${error.message}. The picture below shows the same.`);
    document.body.dataset.failed = "1";
  });
}

for (const id of ["view", "side", "colours", "threshold", "opacity", "cut"]) $(id).addEventListener("input", apply);
window.addEventListener("message", render);
new ResizeObserver(resize).observe(document.documentElement);
apply();
post("componentReady", { apiVersion: 1 });
