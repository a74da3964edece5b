"use strict";
(function () {
  const island = document.getElementById("viewer-data");
  const root = document.getElementById("viewer");
  if (!island || !root) return;
  const data = JSON.parse(island.textContent);
  const words = data.texts;
  const get = (id) => document.getElementById(id);
  const canvas = get("slice");
  // Voxel axes of a plane: across the picture, up the picture, through the stack. All pictures are flipped in both
  // directions, which gives the radiological display from RAS+ axes.
  const AXES = { axial: [0, 1, 2], coronal: [0, 2, 1], sagittal: [1, 2, 0] };
  const state = { series: 0, plane: "axial", at: [0, 0, 0], heat: "", opacity: 0.55, outlines: true, low: 0, high: 1 };
  let voxels = null; // { codes, heat: {task: {...}}, masks: [...] } of the series shown
  let request = 0;

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const series = () => data.series[state.series];

  function decode(part, dims) {
    return new Promise((resolve, reject) => {
      const picture = new Image();
      picture.onload = () => {
        const sheet = document.createElement("canvas");
        sheet.width = picture.naturalWidth;
        sheet.height = picture.naturalHeight;
        const context = sheet.getContext("2d", { willReadFrequently: true });
        context.drawImage(picture, 0, 0);
        const pixels = context.getImageData(0, 0, sheet.width, sheet.height).data;
        const [ni, nj, nk] = dims;
        const out = new Uint8Array(ni * nj * nk);
        for (let k = 0; k < nk; k++) {
          const left = (k % part.columns) * ni;
          const top = Math.floor(k / part.columns) * nj;
          for (let j = 0; j < nj; j++) {
            let from = ((top + j) * sheet.width + left) * 4;
            let to = (k * nj + j) * ni;
            for (let i = 0; i < ni; i++, from += 4) out[to++] = pixels[from];
          }
        }
        resolve(out);
      };
      picture.onerror = reject;
      picture.src = part.atlas;
    });
  }

  // One plane of an array as [width, height, bytes], already turned for display.
  function cut(array, dims, plane, index) {
    const [u, v, w] = AXES[plane];
    const stride = [1, dims[0], dims[0] * dims[1]];
    const width = dims[u], height = dims[v];
    const out = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) {
      const row = index * stride[w] + (height - 1 - y) * stride[v];
      for (let x = 0; x < width; x++) out[y * width + x] = array[row + (width - 1 - x) * stride[u]];
    }
    return [width, height, out];
  }

  function toValue(code) {
    const { codes, values } = series();
    for (let n = 1; n < codes.length; n++) {
      if (code <= codes[n]) return values[n - 1] + ((code - codes[n - 1]) / (codes[n] - codes[n - 1])) * (values[n] - values[n - 1]);
    }
    return values[values.length - 1];
  }

  function greyTable() {
    const table = new Uint8Array(256);
    const width = Math.max(state.high - state.low, 1e-9);
    for (let code = 0; code < 256; code++) table[code] = Math.round(clamp((toValue(code) - state.low) / width, 0, 1) * 255);
    return table;
  }

  function picture(width, height, paint) {
    const sheet = document.createElement("canvas");
    sheet.width = width;
    sheet.height = height;
    const context = sheet.getContext("2d");
    const image = context.createImageData(width, height);
    paint(image.data);
    context.putImageData(image, 0, 0);
    return sheet;
  }

  function geometry() {
    const part = series();
    const [u, v, w] = AXES[state.plane];
    const width = part.dims[u] * part.spacing[u], height = part.dims[v] * part.spacing[v];
    const room = Math.max(200, canvas.parentElement.clientWidth || 512);
    const scale = Math.min(room / width, Math.min(620, room * 1.2) / height);
    return { u, v, w, pixelX: part.spacing[u] * scale, pixelY: part.spacing[v] * scale, width: width * scale, height: height * scale };
  }

  function draw() {
    if (!voxels) return;
    const part = series(), place = geometry(), density = window.devicePixelRatio || 1;
    canvas.width = Math.round(place.width * density);
    canvas.height = Math.round(place.height * density);
    canvas.style.width = `${Math.round(place.width)}px`;
    canvas.style.height = `${Math.round(place.height)}px`;
    const context = canvas.getContext("2d");
    context.scale(density, density);
    context.imageSmoothingQuality = "high";
    const [width, height, codes] = cut(voxels.codes, part.dims, state.plane, state.at[place.w]);
    const grey = greyTable();
    const base = picture(width, height, (pixels) => {
      for (let n = 0; n < codes.length; n++) {
        pixels[4 * n] = pixels[4 * n + 1] = pixels[4 * n + 2] = grey[codes[n]];
        pixels[4 * n + 3] = 255;
      }
    });
    context.drawImage(base, 0, 0, place.width, place.height);
    if (state.heat && state.opacity > 0) drawHeat(context, place);
    if (state.outlines) voxels.masks.forEach((mask, number) => drawOutline(context, place, mask, number));
    drawPeak(context, place);
    if (part.edges) drawEdges(context, place, part.edges[state.plane]);
    tell(place);
  }

  function drawHeat(context, place) {
    const heat = voxels.heat[state.heat];
    if (!heat) return;
    const index = Math.min(heat.dims[place.w] - 1, Math.floor(state.at[place.w] / heat.extra[place.w]));
    const [width, height, codes] = cut(heat.values, heat.dims, state.plane, index);
    const sheet = picture(width, height, (pixels) => {
      for (let n = 0; n < codes.length; n++) {
        const level = codes[n] / 252;
        const colour = 3 * Math.round(level * 255);
        for (let channel = 0; channel < 3; channel++) pixels[4 * n + channel] = data.colours[colour + channel];
        pixels[4 * n + 3] = Math.round(255 * state.opacity * clamp((level - data.floor) / (0.5 - data.floor), 0, 1));
      }
    });
    // Blocks at the upper ends of the axes may reach past the volume; after the flip that is left and on top.
    const fullWidth = width * heat.extra[place.u] * place.pixelX, fullHeight = height * heat.extra[place.v] * place.pixelY;
    context.drawImage(sheet, place.width - fullWidth, place.height - fullHeight, fullWidth, fullHeight);
  }

  function drawOutline(context, place, mask, number) {
    const [width, height, marked] = cut(mask.values, series().dims, state.plane, state.at[place.w]);
    const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && marked[y * width + x] > 127;
    const [colour, dashes] = data.outlines[number % data.outlines.length];
    context.strokeStyle = colour;
    context.lineWidth = 1.75;
    context.setLineDash(dashes ? dashes.split(" ").map(Number) : []);
    context.beginPath();
    for (let y = 0; y <= height; y++) {
      for (let x = 0; x <= width; x++) {
        if (at(x, y) !== at(x, y - 1)) { context.moveTo(x * place.pixelX, y * place.pixelY); context.lineTo((x + 1) * place.pixelX, y * place.pixelY); }
        if (at(x, y) !== at(x - 1, y)) { context.moveTo(x * place.pixelX, y * place.pixelY); context.lineTo(x * place.pixelX, (y + 1) * place.pixelY); }
      }
    }
    context.stroke();
    context.setLineDash([]);
  }

  function drawPeak(context, place) {
    const heat = voxels.heat[state.heat];
    if (!heat || !heat.peak || heat.peak[place.w] !== state.at[place.w]) return;
    const dims = series().dims;
    const x = (dims[place.u] - 0.5 - heat.peak[place.u]) * place.pixelX, y = (dims[place.v] - 0.5 - heat.peak[place.v]) * place.pixelY;
    for (const [colour, width] of [["#000", 4], ["#fff", 1.75]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.arc(x, y, 9, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  function drawEdges(context, place, letters) {
    context.font = "600 16px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 4;
    context.strokeStyle = "#000";
    context.fillStyle = "#fff";
    const spots = [[13, place.height / 2], [place.width - 13, place.height / 2], [place.width / 2, 13], [place.width / 2, place.height - 13]];
    spots.forEach(([x, y], n) => { context.strokeText(letters[n], x, y); context.fillText(letters[n], x, y); });
  }

  function sourceSlice(axis) {
    const factor = series().factors[axis];
    return Math.min(series().source[axis], state.at[axis] * factor + Math.floor(factor / 2) + 1);
  }

  function tell(place) {
    const part = series();
    const text = fill(words.slice_of, { plane: part.edges ? words[state.plane] : words.picture, slice: sourceSlice(place.w), count: part.source[place.w] });
    get("where").textContent = `${part.label}: ${text}`;
    canvas.setAttribute("aria-label", `${part.label}: ${text}`);
    get("index").max = part.dims[place.w] - 1;
    get("index").value = state.at[place.w];
    get("low-value").textContent = `${Number(state.low.toPrecision(4))} ${part.unit}`;
    get("high-value").textContent = `${Number(state.high.toPrecision(4))} ${part.unit}`;
    root.dataset.slice = sourceSlice(place.w);
    root.dataset.plane = state.plane;
  }

  function move(steps) {
    const w = AXES[state.plane][2];
    const next = clamp(state.at[w] + steps, 0, series().dims[w] - 1);
    const moved = next !== state.at[w];
    state.at[w] = next;
    if (moved) draw();
    return moved;
  }

  function setWindow(low, high) {
    const { values } = series();
    const first = values[0], range = values[values.length - 1] - first;
    state.low = low;
    state.high = high;
    get("low").value = Math.round(((low - first) / range) * 1000);
    get("high").value = Math.round(((high - first) / range) * 1000);
  }

  function options(select, pairs, chosen) {
    select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value, false, value === chosen)));
    select.disabled = pairs.length < 2;
  }

  function jump() {
    const heat = voxels && voxels.heat[state.heat];
    if (!heat || !heat.peak) return;
    state.at = heat.peak.slice();
    draw();
  }

  async function show(number, keep) {
    const mine = ++request, before = keep ? series() : null;
    const part = data.series[number];
    const [codes, heats, masks] = await Promise.all([
      decode(part, part.dims),
      Promise.all(part.heatmaps.map(async (heat) => ({ ...heat, values: await decode(heat, heat.dims) }))),
      Promise.all(part.masks.map(async (mask) => ({ ...mask, values: await decode(mask, part.dims) }))),
    ]);
    if (mine !== request) return;
    state.series = number;
    voxels = { codes, masks, heat: Object.fromEntries(heats.map((heat) => [heat.task, heat])) };
    if (!keep || !part.planes.includes(state.plane)) state.plane = part.plane;
    // The same relative place in the next series, so that sequences can be compared.
    state.at = part.dims.map((count, axis) => before ? clamp(Math.round(((state.at[axis] + 0.5) * count) / before.dims[axis] - 0.5), 0, count - 1) : count >> 1);
    const tasks = part.heatmaps.map((heat) => heat.task);
    if (!tasks.includes(state.heat) && !(keep && state.heat === "")) state.heat = tasks[0] || "";
    options(get("series"), data.series.map((one, n) => [String(n), one.label]), String(number));
    options(get("plane"), part.planes.map((plane) => [plane, part.edges ? words[plane] : words.picture]), state.plane);
    options(get("heatmap"), [...part.heatmaps.map((heat) => [heat.task, (data.tasks[heat.task] || heat.task) + (heat.carried ? ` (${heat.carried})` : "")]), ["", words.no_heatmap]], state.heat);
    const presets = Object.keys(part.presets);
    const first = presets.length ? [] : [["auto", words.auto]];
    options(get("preset"), [...first, ...presets.map((name) => [name, words[name]]), ["full", words.full], ["custom", words.custom]], presets[0] || "auto");
    setWindow(part.window[0], part.window[1]);
    get("convention").textContent = part.edges ? words.convention : words.unknown_orientation;
    const source = part.source.join(" × ");
    get("matrix").textContent = part.factors.every((factor) => factor === 1)
      ? fill(words.full_resolution, { source }) : fill(words.reduced, { shown: part.dims.join(" × "), source });
    get("planes-note").textContent = part.ratio > data.maxRatio ? fill(words.only_plane, { ratio: part.ratio }) : "";
    if (!keep) jump();
    draw();
    root.dataset.ready = String(number);
  }

  function under(event) {
    if (!voxels) return;
    const part = series(), place = geometry(), box = canvas.getBoundingClientRect();
    const index = state.at.slice();
    index[place.u] = clamp(part.dims[place.u] - 1 - Math.floor((event.clientX - box.left) / place.pixelX), 0, part.dims[place.u] - 1);
    index[place.v] = clamp(part.dims[place.v] - 1 - Math.floor((event.clientY - box.top) / place.pixelY), 0, part.dims[place.v] - 1);
    const code = voxels.codes[index[0] + part.dims[0] * (index[1] + part.dims[1] * index[2])];
    const source = index.map((value, axis) => value * part.factors[axis] + (part.factors[axis] >> 1));
    get("under").textContent = `(${source.join(", ")}) ≈ ${Number(toValue(code).toPrecision(3))} ${part.unit}`;
  }

  const KEYS = {
    ArrowUp: () => move(1), ArrowRight: () => move(1), ArrowDown: () => move(-1), ArrowLeft: () => move(-1),
    PageUp: () => move(5), PageDown: () => move(-5), Home: () => move(-1e6), End: () => move(1e6),
    p: jump,
    h: () => choose(state.heat ? "" : (series().heatmaps[0] || { task: "" }).task),
    o: () => { state.outlines = !state.outlines; if (get("outlines")) get("outlines").checked = state.outlines; draw(); },
  };

  function choose(task) {
    state.heat = task;
    get("heatmap").value = task;
    draw();
  }

  function customWindow(edge) {
    const { values } = series();
    const value = values[0] + (get(edge).value / 1000) * (values[values.length - 1] - values[0]);
    const gap = (values[values.length - 1] - values[0]) / 200;
    if (edge === "low") state.low = Math.min(value, state.high - gap);
    else state.high = Math.max(value, state.low + gap);
    get("preset").value = "custom";
    draw();
  }

  function preset(name) {
    const part = series();
    if (name in part.presets) setWindow(...part.presets[name]);
    else if (name === "auto") setWindow(...part.window);
    else if (name === "full") setWindow(part.values[0], part.values[part.values.length - 1]);
    draw();
  }

  canvas.addEventListener("keydown", (event) => {
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  canvas.addEventListener("wheel", (event) => {
    // At the ends of the stack the page scrolls on.
    if (!event.ctrlKey && move(event.deltaY < 0 ? 1 : -1)) event.preventDefault();
  }, { passive: false });
  canvas.addEventListener("pointermove", under);
  let dragged = null;
  canvas.addEventListener("pointerdown", (event) => { dragged = event.clientY; });
  canvas.addEventListener("pointerup", () => { dragged = null; });
  canvas.addEventListener("pointermove", (event) => {
    if (dragged === null || Math.abs(event.clientY - dragged) < 12) return;
    move(event.clientY < dragged ? 1 : -1);
    dragged = event.clientY;
  });
  get("index").addEventListener("input", (event) => { state.at[AXES[state.plane][2]] = Number(event.target.value); draw(); });
  get("series").addEventListener("change", (event) => show(Number(event.target.value), true));
  get("plane").addEventListener("change", (event) => { state.plane = event.target.value; draw(); });
  get("heatmap").addEventListener("change", (event) => choose(event.target.value));
  get("opacity").addEventListener("input", (event) => { state.opacity = event.target.value / 100; draw(); });
  if (get("outlines")) get("outlines").addEventListener("change", (event) => { state.outlines = event.target.checked; draw(); });
  get("preset").addEventListener("change", (event) => preset(event.target.value));
  get("low").addEventListener("input", () => customWindow("low"));
  get("high").addEventListener("input", () => customWindow("high"));
  get("peak").addEventListener("click", jump);
  get("reset").addEventListener("click", () => show(state.series, false));
  window.addEventListener("resize", draw);

  root.hidden = false;
  get("viewer-off").hidden = true;
  show(data.first, false);
})();
