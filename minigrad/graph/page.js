"use strict";
// All steps stand on the page as a list, which can be read without this script. It shows one of them at a time,
// lights up its part of the picture, and hides the values and gradients that are not known yet.

const find = (selector, root = document) => [...root.querySelectorAll(selector)];
const [picture, title, numbers, sentence, place, slider, all, play, list] =
  ["picture", "title", "numbers", "sentence", "place", "slider", "all", "play", "list"].map((id) => document.getElementById(id));
const drawing = picture.querySelector("svg");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const steps = find("#steps > li");
const pause = 4000; // milliseconds, for reading a sentence or two

list.open = false; // before anything is measured
document.body.classList.add("running");

let now = 0;
let timer = 0;
let zoom = 1;

// "1-3 7" as ["1", "2", "3", "7"].
function numbered(text = "") {
  return text.split(" ").filter(Boolean).flatMap((part) => {
    const [first, last] = part.split("-");
    return last ? Array.from({ length: last - first + 1 }, (_, i) => String(Number(first) + i)) : [part];
  });
}

// The groups of the picture by what they stand for: "node 3", "edge 5". A folded box stands for several nodes.
const groups = new Map();
for (const kind of ["node", "edge"]) {
  for (const group of find(`[data-${kind}]`, picture)) {
    for (const number of numbered(group.dataset[kind])) {
      const key = `${kind} ${number}`;
      groups.set(key, [...(groups.get(key) || []), group]);
    }
  }
}

// The groups that an attribute of a step names: data-edges="2 4".
function named(step, attribute, kind) {
  return numbered(step.dataset[attribute]).flatMap((number) => groups.get(`${kind} ${number}`) || []);
}

// What a step brings into the picture, with the number of that step; of nan and inf also their ground.
const brought = new Map();
for (const [number, step] of steps.entries()) {
  for (const [attribute, kind, parts] of [
    ["values", "edge", "text.value"],
    ["gradients", "edge", "text.gradient, .backward"],
    ["totals", "node", "text.gradient"],
  ]) {
    for (const group of named(step, attribute, kind)) {
      for (const part of find(parts, group)) brought.set(part.closest(".bad") || part, number);
    }
  }
}

const lit = steps.map((step) => [...named(step, "node", "node"), ...named(step, "edges", "edge")]);

// The sentences call nodes by their numbers, which the picture leaves out. All are measured first, then all are added.
const circled = find(".node.op", picture).map((group) => [group, group.querySelector(".shape").getBBox()]);
for (const [group, box] of circled) {
  const text = document.createElementNS(drawing.namespaceURI, "text");
  text.setAttribute("class", "small");
  text.setAttribute("text-anchor", "middle");
  text.setAttribute("x", box.x + box.width / 2);
  text.setAttribute("y", box.y - 4);
  text.textContent = group.dataset.node;
  group.append(text);
}

function go(number) {
  for (const part of lit[now]) part.classList.remove("lit");
  steps[now].removeAttribute("aria-current");
  now = Math.max(0, Math.min(steps.length - 1, number));
  const step = steps[now];
  for (const part of lit[now]) part.classList.add("lit");
  step.setAttribute("aria-current", "step");
  document.body.dataset.direction = step.dataset.direction;
  showLabels();

  const text = (part) => step.querySelector(part).textContent;
  title.textContent = text("h2");
  sentence.textContent = text(".sentence");
  numbers.replaceChildren(...step.querySelector(".numbers").cloneNode(true).childNodes);
  place.textContent = text(".place");
  slider.value = now;
  slider.setAttribute("aria-valuetext", text(".place"));
  const ends = { first: now === 0, back: now === 0, next: now === steps.length - 1, last: now === steps.length - 1 };
  // aria-disabled, since a button that is disabled loses the focus of whoever pressed it.
  for (const [id, end] of Object.entries(ends)) document.getElementById(id).setAttribute("aria-disabled", end);
  if (now === steps.length - 1) stop();
  bringIntoSight();
  scrollTo({ top: 0, behavior: calm.matches ? "instant" : "smooth" });
}

function showLabels() {
  const everything = all.getAttribute("aria-pressed") === "true";
  for (const [part, number] of brought) part.classList.toggle("later", number > now && !everything);
}

function bringIntoSight() {
  const node = named(steps[now], "node", "node")[0];
  if (!node) return;
  const [part, frame] = [node.getBoundingClientRect(), picture.getBoundingClientRect()];
  const x = part.x + part.width / 2 - frame.x;
  const y = part.y + part.height / 2 - frame.y;
  const away = (at, size) => (at < size * 0.25 || at > size * 0.75 ? at - size / 2 : 0);
  const [left, top] = [away(x, frame.width), away(y, frame.height)];
  const far = Math.abs(left) > frame.width || Math.abs(top) > frame.height;
  picture.scrollBy({ left, top, behavior: far || calm.matches ? "instant" : "smooth" });
}

function stop() {
  clearInterval(timer);
  timer = 0;
  play.setAttribute("aria-pressed", "false");
}

function start() {
  if (now === steps.length - 1) go(0);
  play.setAttribute("aria-pressed", "true");
  timer = setInterval(() => go(now + 1), pause);
}

function scale(factor) {
  zoom = Math.max(0.1, Math.min(4, factor));
  const box = drawing.viewBox.baseVal;
  drawing.style.width = `${box.width * zoom}px`;
  drawing.style.height = `${box.height * zoom}px`;
  bringIntoSight();
}

// As large as there is room for; letters that are shrunk past reading help nobody, so a long graph scrolls instead.
function fit(least) {
  const { width, height } = drawing.viewBox.baseVal;
  const most = Math.min((picture.clientWidth - 16) / width, (innerHeight * 0.38) / height, 1.25);
  scale(Math.max(least, most));
}

const actions = {
  first: () => go(0),
  back: () => go(now - 1),
  next: () => go(now + 1),
  last: () => go(steps.length - 1),
};
const keys = { ArrowRight: "next", ArrowLeft: "back", " ": "next", Home: "first", End: "last" };

for (const [id, action] of Object.entries(actions)) {
  document.getElementById(id).addEventListener("click", () => {
    stop();
    action();
  });
}
play.addEventListener("click", () => (timer ? stop() : start()));
all.addEventListener("click", () => {
  all.setAttribute("aria-pressed", all.getAttribute("aria-pressed") !== "true");
  showLabels();
});
slider.addEventListener("input", () => {
  stop();
  go(Number(slider.value));
});
document.getElementById("in").addEventListener("click", () => scale(zoom * 1.25));
document.getElementById("out").addEventListener("click", () => scale(zoom / 1.25));
document.getElementById("fit").addEventListener("click", () => fit(0));

document.addEventListener("keydown", (event) => {
  const target = event.target;
  const action = keys[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  if (target === slider && event.key !== " ") return; // it moves by itself
  if (event.key === " " && target.closest("button, summary, a")) return; // the key that presses it
  event.preventDefault();
  stop();
  actions[action]();
});

// A click on a node goes to its step: backward while gradients flow, forward otherwise.
picture.addEventListener("click", (event) => {
  const group = event.target.closest("[data-node]");
  if (!group) return;
  const wanted = numbered(group.dataset.node);
  const found = steps.flatMap((step, number) => (wanted.includes(step.dataset.node) ? [number] : []));
  const same = found.filter((number) => steps[number].dataset.direction === steps[now].dataset.direction);
  if (!found.length) return;
  stop();
  go((same.length ? same : found)[0]);
});

// page.html#7 opens at step 7.
function follow() {
  const number = Number(location.hash.slice(1));
  if (!(number in steps) || !location.hash) return false;
  stop();
  go(number);
  return true;
}
list.addEventListener("click", (event) => {
  const step = event.target.closest("a") && event.target.closest("li");
  if (!step) return;
  event.preventDefault();
  stop();
  go(steps.indexOf(step));
  document.getElementById("next").focus({ preventScroll: true });
});
addEventListener("hashchange", follow);

fit(0.85);
if (!follow()) go(0);
