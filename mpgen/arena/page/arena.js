// The rater's side: join, watch, answer. Whatever is shown of people's input goes through textContent.

import { Player } from "./player.js";

const ANSWERS = [["left", "← Left"], ["tie", "↑ Tie"], ["both_bad", "↓ Both bad"], ["right", "Right →"]];
const ANSWER_KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "tie", ArrowDown: "both_bad" };
const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

let key = null;
let token = "";
let turn = null;      // what the server said last
let pair = null;      // the pair on the screen
let answers = {};
let current = 0;      // index of the question that the keys answer
let sending = false;
const loaded = new Map(); // video name -> promise of a blob's URL
const player = new Player($("left"), $("right"), refresh);

// -- the server

async function api(path, body) {
  const request = { headers: {} };
  if (key) request.headers.Authorization = `Bearer ${key}`;
  if (body) Object.assign(request, { method: "POST", body: JSON.stringify(body) });
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    let response;
    try {
      response = await fetch(path, request);
    } catch {
      notice("The server cannot be reached. Nothing is lost; trying again …");
      await sleep(wait);
      continue;
    }
    notice("");
    if (response.status >= 500) throw new Error("The server has a problem. Please reload the page.");
    const said = await response.json();
    if (!response.ok) throw Object.assign(new Error(said.error), { status: response.status });
    return said;
  }
}

function load(name) {
  if (!loaded.has(name)) {
    const loading = fetchWhole(name);
    loading.catch(() => loaded.delete(name));
    loaded.set(name, loading);
  }
  return loaded.get(name);
}

// A whole video before it is shown: no pause while it plays can tell one from the other.
async function fetchWhole(name) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const response = await fetch(`video/${name}`, { headers: { Authorization: `Bearer ${key}` } });
      if (!response.ok) throw Object.assign(new Error("A video of this pair is not there any more."), { final: true });
      return URL.createObjectURL(await received(name, response));
    } catch (error) {
      if (error.final) throw error;
      notice("A video is slow to come; trying again …");
      await sleep(wait);
    }
  }
}

async function received(name, response) {
  const reader = response.body.getReader();
  const total = Number(response.headers.get("Content-Length"));
  const parts = [];
  for (let bytes = 0; ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    bytes += value.length;
    progress[name] = total ? bytes / total : 0;
  }
  notice("");
  return new Blob(parts, { type: "video/mp4" });
}
const progress = {};

// -- the states of the page

function state(name) { document.body.dataset.state = name; }

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

async function show(said) {
  turn = said;
  const wanted = new Set(turn.pairs.flatMap(({ left, right }) => [left, right]));
  for (const [name, loading] of loaded) {
    if (!wanted.has(name)) { loaded.delete(name); loading.then(URL.revokeObjectURL, () => {}); }
  }
  pair = turn.pairs[0] ?? null;
  $("progress").firstElementChild.style.width = `${100 * turn.voted / Math.max(1, turn.total)}%`;
  if (!pair) {
    $("summary").textContent = `You have judged all ${turn.voted} pairs.`;
    state("done");
    return;
  }
  $("count").textContent = `${turn.voted + 1} of ${turn.total}`;
  answers = draft();
  current = Math.max(0, turn.questions.findIndex(({ name }) => !(name in answers)));
  document.body.dataset.loading = "";
  state("compare");
  drawQuestions();
  const shown = pair;
  const urls = await Promise.all([load(shown.left), load(shown.right)]);
  await player.show(urls, shown.fps);
  delete document.body.dataset.loading;
  const ahead = turn.pairs[1];
  if (ahead) Promise.all([load(ahead.left), load(ahead.right)]).catch(() => {});
}

// Answers that were not sent yet survive a reload.
function draft() {
  try {
    const kept = JSON.parse(localStorage.getItem("draft"));
    return kept.pair === pair.id ? kept.answers : {};
  } catch { return {}; }
}

function drawQuestions() {
  $("questions").replaceChildren(...turn.questions.map(({ name, text }, row) => {
    const line = document.createElement("div");
    line.className = "question";
    const label = document.createElement("span");
    label.textContent = text;
    label.id = `question-${name}`;
    const group = document.createElement("div");
    group.className = "answers";
    group.setAttribute("role", "radiogroup");
    group.setAttribute("aria-labelledby", label.id);
    for (const [answer, words] of ANSWERS) {
      const button = document.createElement("button");
      button.textContent = words;
      button.dataset.answer = answer;
      button.setAttribute("role", "radio");
      button.onclick = () => { current = row; choose(answer); };
      group.append(button);
    }
    line.append(label, group);
    return line;
  }));
  refresh();
}

function choose(answer) {
  if (!mayAnswer()) return;
  answers[turn.questions[current].name] = answer;
  localStorage.setItem("draft", JSON.stringify({ pair: pair.id, answers }));
  current = Math.min(current + 1, turn.questions.length - 1);
  refresh();
}

const mayAnswer = () => pair && !sending && !("loading" in document.body.dataset) && player.watched;
const complete = () => mayAnswer() && turn.questions.every(({ name }) => name in answers);

function refresh() {
  if (document.body.dataset.state !== "compare") return;
  const open = mayAnswer();
  for (const [row, line] of [...$("questions").children].entries()) {
    line.classList.toggle("current", open && row === current);
    for (const button of line.querySelectorAll("button")) {
      button.disabled = !open;
      button.setAttribute("aria-checked", String(answers[turn.questions[row].name] === button.dataset.answer));
    }
  }
  $("next").disabled = !complete();
  set($("hint"), open ? (complete() ? "" : "Which one? Use the arrow keys or the buttons.") : "Watch both to the end, then answer.");
  const waiting = pair && "loading" in document.body.dataset;
  const part = pair ? ((progress[pair.left] ?? 0) + (progress[pair.right] ?? 0)) / 2 : 0;
  set($("loading"), waiting ? `Loading ${Math.round(100 * part)} %` : "");
  set($("play"), player.playing ? "Pause" : "Play");
  set($("speed"), `${player.speed}×`);
  set($("clock"), `${player.time.toFixed(2)} / ${player.duration.toFixed(2)} s`);
  if (document.activeElement !== $("scrub")) $("scrub").value = player.duration ? player.time / player.duration : 0;
}

function set(element, text) { if (element.textContent !== text) element.textContent = text; }

async function send() {
  if (!complete()) return;
  sending = true;
  player.pause();
  try {
    const said = await api("api/vote", { pair: pair.id, answers });
    localStorage.removeItem("draft");
    sending = false;
    await show(said);
  } catch (error) {
    sending = false;
    if (error.status === 409) await show(await api("api/turn"));
    else throw error;
  }
}

// -- hands

const actions = {
  " ": () => player.toggle(),
  ",": () => player.step(-1),
  ".": () => player.step(1),
  r: () => { player.seek(0); player.play(); },
  j: () => player.lastSeconds(10),
  "[": () => player.faster(-1),
  "]": () => player.faster(1),
  l: () => { player.loop = !player.loop; $("loop").setAttribute("aria-pressed", String(player.loop)); },
  v: () => {
    const stacked = document.body.dataset.view !== "stack";
    document.body.dataset.view = stacked ? "stack" : "side";
    document.body.dataset.top = "left";
    $("view").setAttribute("aria-pressed", String(stacked));
  },
  x: () => { document.body.dataset.top = document.body.dataset.top === "left" ? "right" : "left"; },
  Backspace: () => { current = Math.max(0, current - 1); refresh(); },
  Enter: () => send().catch(report),
};

document.addEventListener("keydown", (event) => {
  if (document.body.dataset.state !== "compare" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input:not([type=range])")) return;
  if (event.target.matches("button, summary") && [" ", "Enter"].includes(event.key)) return; // the button's own
  if (event.repeat && !",.".includes(event.key)) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = name in ANSWER_KEYS ? () => choose(ANSWER_KEYS[name]) : actions[name];
  if (action) { event.preventDefault(); action(); }
});
// After a click the keys are the page's again, not the button's.
document.addEventListener("click", (event) => { if (event.detail > 0) event.target.closest("button")?.blur(); });

$("play").onclick = actions[" "];
$("back").onclick = actions[","];
$("forward").onclick = actions["."];
$("end").onclick = actions.j;
$("speed").onclick = () => player.nextSpeed();
$("loop").onclick = actions.l;
$("view").onclick = actions.v;
$("next").onclick = actions.Enter;
$("scrub").oninput = () => player.seek($("scrub").value * player.duration);
$("scrub").onchange = () => $("scrub").blur();

$("join-form").onsubmit = async (event) => {
  event.preventDefault();
  try {
    key = (await api("api/join", { name: $("name").value, token })).key;
    localStorage.setItem("key", key);
    await enter();
  } catch (error) { report(error); }
};

function report(error) { notice(error.message); }

async function enter() {
  $("link").value = `${location.origin}/#key=${key}`;
  try {
    await show(await api("api/turn"));
  } catch (error) {
    if (error.status !== 401) throw error;
    localStorage.removeItem("key");
    key = null;
    state("join");
  }
}

// The token and a rater's key come after the #, which no browser sends to a server or keeps in a Referer.
const given = new URLSearchParams(location.hash.slice(1));
token = given.get("token") ?? sessionStorage.getItem("token") ?? "";
sessionStorage.setItem("token", token);
if (given.has("key")) localStorage.setItem("key", given.get("key"));
history.replaceState(null, "", location.pathname);
key = localStorage.getItem("key");
if (key) enter().catch(report); else state("join");
