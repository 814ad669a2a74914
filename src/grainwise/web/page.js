"use strict";

const element = (id) => document.getElementById(id);
const state = { key: null, model: null, about: null, picture: null, asked: 0, timer: null, looking: false, again: false };
const names = { denoise: "Remove noise", dejpeg: "Remove JPEG artifacts", upscale: "Enlarge" };

function say(text, isError = false) {
  element("message").textContent = text;
  element("message").classList.toggle("error", isError);
}

async function get(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("grainwise does not answer; is it still running?");
  }
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer;
}

const ask = async (path, options) => (await get(path, options)).json();

async function guarded(work) {
  try {
    await work();
  } catch (error) {
    element("working").hidden = true;
    say(error.message, true);
  }
}

async function start() {
  state.model = await ask("model");
  for (const about of state.model.tasks) element("task").add(new Option(names[about.task], about.task));
  choose();
}

function choose() {
  const about = state.model.tasks.find((each) => each.task === element("task").value);
  state.about = about;
  element("budget").replaceChildren();
  for (const plan of about.plans) {
    const cost = `${(plan.macs_per_pixel / 1000).toFixed(1)}K multiply-adds per pixel`;
    element("budget").add(new Option(plan.name ? `${plan.name}, ${cost}` : cost, plan.macs_per_pixel));
  }
  const usual = about.plans.find((plan) => plan.name === "balanced") ?? about.plans[0];
  element("budget").value = usual.macs_per_pixel;
  for (const part of document.querySelectorAll(".task")) part.hidden = part.dataset.task !== about.task;
  if (about.highest_sigma) element("sigma").max = about.highest_sigma;
  if (about.least_scale) Object.assign(element("scale"), { min: about.least_scale, max: about.greatest_scale });
}

function forget(key) {
  if (key) ask(`pictures/${key}`, { method: "DELETE" }).catch(() => {});
}

async function take(file) {
  if (file.size > state.model.max_upload) {
    throw new Error(`${file.name} is larger than ${Math.round(state.model.max_upload / 2 ** 20)} MB`);
  }
  const turn = ++state.asked;
  forget(state.key);
  state.key = null;
  element("view").hidden = element("download").hidden = element("zoom-label").hidden = true;
  element("settings").disabled = true;
  unlook();
  say(`Reading ${file.name}`);
  const told = await ask(`pictures?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
  if (turn !== state.asked) return forget(told.key);
  state.key = told.key;
  element("settings").disabled = false;
  element("before").src = `pictures/${told.key}/before`;
  await restore();
}

function settings() {
  const asked = new URLSearchParams({ task: state.about.task, budget: element("budget").value });
  const give = (name) => element(name).value !== "" && asked.set(name, element(name).value);
  if (state.about.task === "denoise") ["strength", "sigma"].forEach(give);
  if (state.about.task === "dejpeg" && !element("blind").checked) give("quality");
  if (state.about.task === "upscale") give("scale");
  return asked;
}

async function restore() {
  if (!state.key) return;
  const turn = ++state.asked;
  element("download").hidden = true;
  element("working").hidden = false;
  element("progress").value = 0;
  say("");
  const key = state.key;
  await ask(`pictures/${key}/restore?${settings()}`, { method: "POST" });
  for (;;) {
    await new Promise((resume) => setTimeout(resume, 200));
    if (turn !== state.asked || key !== state.key) return;
    const told = await ask(`pictures/${key}`);
    if (turn !== state.asked || key !== state.key) return;
    element("progress").value = told.progress;
    if (told.state === "waiting" || told.state === "running") continue;
    element("working").hidden = true;
    if (told.state === "failed") throw new Error(told.error);
    if (told.state === "cancelled") return say("Cancelled");
    return show(key, told, turn);
  }
}

function words(told) {
  if (told.task === "denoise") {
    return told.noise_found ? `Noise level ${told.sigma.toFixed(1)}`
      : "No noise was found that can be told from the picture. If there is some, give its level, such as 5.";
  }
  if (told.task === "upscale") return `${told.result_width} x ${told.result_height}`;
  if (!told.artifacts_found) {
    return "No trace of JPEG was found in the pixels. If there is one, give the quality that it was saved at, such as 40.";
  }
  const source = { given: "as given", file: "by the file's tables", pixels: "by its pixels" }[told.quality_from];
  return `JPEG quality ${told.quality} ${source}`;
}

async function show(key, told, turn) {
  const megapixels = (told.result_width * told.result_height) / 1e6;
  state.picture = told;
  say(`${words(told)}; ${megapixels.toFixed(1)} megapixels in ${told.seconds.toFixed(2)} s`);
  if (told.task === "dejpeg" && told.quality_from !== "given" && told.artifacts_found) {
    element("quality").value = told.quality;
    element("quality-shown").value = told.quality;
  }
  element("after").src = `pictures/${key}/after?${turn}`;
  element("view").hidden = element("download").hidden = element("zoom-label").hidden = false;
  element("download").href = `pictures/${key}/file?${turn}`;
  element("download").textContent = `Download ${told.name} (${(told.bytes / 1e6).toFixed(1)} MB)`;
  await element("after").decode().catch(() => {});
  if (turn !== state.asked || key !== state.key) return;
  zoom();
  unlook();
  await look("preview", false); // so that the slider is prepared
}

// The slider: a quick look at what is on the screen, at once, while it moves; the window in full quality when it stands.

function onScreen() {
  const { width, height, orientation } = state.picture;
  if (!element("zoom").checked || orientation !== 1) return null;
  const stage = element("stage"), part = { left: stage.scrollLeft, top: stage.scrollTop };
  const left = Math.min(width - 1, Math.floor(part.left)), top = Math.min(height - 1, Math.floor(part.top));
  return [left, top, Math.min(width - left, stage.clientWidth, 2000), Math.min(height - top, stage.clientHeight, 2000)];
}

function slides() {
  const { picture, about } = state;
  return state.key && picture && about.slides && (picture.orientation === 1 || picture.format === "jpg");
}

async function look(kind, shown = true) {
  if (!slides()) return;
  if (state.looking) return void (state.again = [kind, shown]);
  state.looking = true;
  const key = state.key, turn = state.asked;
  try {
    const asked = settings(), area = onScreen();
    if (area) asked.set("window", area.join(","));
    if (state.about.task === "dejpeg" && !asked.has("quality")) {
      if (!state.picture.artifacts_found) return;
      asked.set("quality", element("quality").value);
    }
    if (kind === "part" && !area) return;
    const answer = await get(`pictures/${key}/${kind}?${asked}`);
    const reader = new FileReader();
    const read = new Promise((resume) => reader.addEventListener("load", resume));
    reader.readAsDataURL(await answer.blob());
    await read;
    if (!shown || key !== state.key || turn !== state.asked) return;
    element("look").src = reader.result;
    await element("look").decode().catch(() => {});
    const place = area ? area.map((pixels) => `${pixels}px`) : ["0", "0", "100%", "100%"];
    ["--left", "--top", "--wide", "--high"].forEach((name, i) => element("look").style.setProperty(name, place[i]));
    element("look").hidden = false;
  } finally {
    state.looking = false;
    const again = state.again;
    state.again = false;
    if (again) guarded(() => look(...again));
  }
}

function unlook() {
  element("look").hidden = true;
}

function slide() {
  if (!element("working").hidden && state.key) {
    ++state.asked; // what runs is for an older place of the slider
    element("working").hidden = true;
    ask(`pictures/${state.key}/cancel`, { method: "POST" }).catch(() => {});
  }
  guarded(() => look("preview"));
}

function divide(percent) {
  const part = Math.min(100, Math.max(0, percent));
  element("sheet").style.setProperty("--part", `${part}%`);
  element("divider").value = part;
}

function follow(event) {
  if (event.type === "pointermove" && !event.buttons) return;
  const box = element("before").getBoundingClientRect();
  divide((100 * (event.clientX - box.left)) / box.width);
}

function zoom() {
  const pixels = element("zoom").checked;
  element("stage").classList.toggle("pixels", pixels);
  element("sheet").style.setProperty("--width", pixels ? `${element("after").naturalWidth}px` : "100%");
}

function soon() {
  clearTimeout(state.timer);
  state.timer = setTimeout(() => guarded(restore), 250);
}

function stand() {
  guarded(() => look("part"));
  soon();
}

element("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) guarded(() => take(file));
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) guarded(() => take(event.dataTransfer.files[0]));
  });
}
element("controls").addEventListener("submit", (event) => event.preventDefault());
element("task").addEventListener("change", () => {
  choose();
  unlook();
  soon();
});
element("strength").addEventListener("input", () => {
  element("strength-shown").value = Number(element("strength").value).toFixed(2);
  slide();
});
element("quality").addEventListener("input", () => {
  element("blind").checked = false;
  element("quality-shown").value = element("quality").value;
  slide();
});
for (const id of ["strength", "quality"]) element(id).addEventListener("change", stand);
for (const id of ["budget", "sigma", "blind", "scale"]) element(id).addEventListener("change", soon);
element("cancel").addEventListener("click", () => {
  if (state.key) guarded(() => ask(`pictures/${state.key}/cancel`, { method: "POST" }));
});
element("divider").addEventListener("input", () => divide(Number(element("divider").value)));
for (const kind of ["pointerdown", "pointermove"]) element("stage").addEventListener(kind, follow);
element("zoom").addEventListener("change", () => {
  zoom();
  unlook();
});
element("stage").addEventListener("scroll", unlook);
guarded(start);
