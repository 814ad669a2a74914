"use strict";

const element = (id) => document.getElementById(id);
const state = { key: null, model: null, asked: 0, timer: null };

function say(text, isError = false) {
  element("message").textContent = text;
  element("message").classList.toggle("error", isError);
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("grainwise does not answer; is it still running?");
  }
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

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
  for (const plan of state.model.plans) {
    const cost = `${(plan.macs_per_pixel / 1000).toFixed(1)}K multiply-adds per pixel`;
    element("budget").add(new Option(plan.name ? `${plan.name}, ${cost}` : cost, plan.macs_per_pixel));
  }
  const usual = state.model.plans.find((plan) => plan.name === "balanced") ?? state.model.plans[0];
  element("budget").value = usual.macs_per_pixel;
  element("sigma").max = state.model.highest_sigma;
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
  say(`Reading ${file.name}`);
  const told = await ask(`pictures?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
  if (turn !== state.asked) return forget(told.key);
  state.key = told.key;
  element("settings").disabled = false;
  element("before").src = `pictures/${told.key}/before`;
  await restore();
}

async function restore() {
  if (!state.key) return;
  const turn = ++state.asked;
  const settings = new URLSearchParams({ budget: element("budget").value, strength: element("strength").value });
  if (element("sigma").value !== "") settings.set("sigma", element("sigma").value);
  element("download").hidden = true;
  element("working").hidden = false;
  element("progress").value = 0;
  say("");
  const key = state.key;
  await ask(`pictures/${key}/restore?${settings}`, { method: "POST" });
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

function show(key, told, turn) {
  const megapixels = (told.width * told.height) / 1e6;
  say(told.noise_found
    ? `Noise level ${told.sigma.toFixed(1)}; ${megapixels.toFixed(1)} megapixels in ${told.seconds.toFixed(2)} s`
    : "No noise was found that can be told from the picture. If there is some, give its level, such as 5.");
  element("after").src = `pictures/${key}/after?${turn}`;
  element("view").hidden = element("download").hidden = element("zoom-label").hidden = false;
  element("download").href = `pictures/${key}/file?${turn}`;
  element("download").textContent = `Download ${told.name} (${(told.bytes / 1e6).toFixed(1)} MB)`;
}

function divide(percent) {
  const part = Math.min(100, Math.max(0, percent));
  element("stage").style.setProperty("--part", `${part}%`);
  element("divider").value = part;
}

function follow(event) {
  if (event.type === "pointermove" && !event.buttons) return;
  const box = element("before").getBoundingClientRect();
  divide((100 * (event.clientX - box.left)) / box.width);
}

function soon() {
  clearTimeout(state.timer);
  state.timer = setTimeout(() => guarded(restore), 250);
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
element("strength").addEventListener("input", () => {
  element("strength-shown").value = Number(element("strength").value).toFixed(2);
});
for (const id of ["strength", "budget", "sigma"]) element(id).addEventListener("change", soon);
element("cancel").addEventListener("click", () => {
  if (state.key) guarded(() => ask(`pictures/${state.key}/cancel`, { method: "POST" }));
});
element("divider").addEventListener("input", () => divide(Number(element("divider").value)));
for (const kind of ["pointerdown", "pointermove"]) element("stage").addEventListener(kind, follow);
element("zoom").addEventListener("change", () => element("stage").classList.toggle("pixels", element("zoom").checked));
guarded(start);
