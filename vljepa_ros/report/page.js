// @ts-check
// SPDX-License-Identifier: Apache-2.0
// The page of `vljepa report`. Times are seconds from the start of the recording.
'use strict';

/** @typedef {[start: number, end: number, text: string, confidence: number]} Segment */
/** @typedef {[time: number, value: number][]} Curve */
/**
 * @typedef {{camera: string, prompt: string, model: string, showsModel: boolean, decodes: number,
 *   segments: Segment[], change: Curve, scores: [string, Curve][], answers: [string, Curve][]}} Lane
 */
/**
 * @typedef {{title: string, started: string, length: number, uniform: [number, number][],
 *   lanes: Lane[], thumbnails: Record<string, [number, string][]>}} Data
 */

const SVG = 'http://www.w3.org/2000/svg';
const SEGMENT_HEIGHT = 30;
const CURVE_HEIGHT = 44;
const THUMBNAIL_WIDTH = 74;
const TICK_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/** @type {Data} */
const data = JSON.parse(element('data').textContent || '');
const duration = Math.max(data.length, 0.001);
const cameras = Object.keys(data.thumbnails);
const root = document.documentElement;
let now = 0;
let zoom = 1;
let query = '';

/** @param {string} id @returns {HTMLElement} */
function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found;
}

/**
 * @param {string} tag @param {Record<string, string | number>} attributes @param {string} [text]
 * @returns {SVGElement}
 */
function svg(tag, attributes, text) {
  const made = /** @type {SVGElement} */ (document.createElementNS(SVG, tag));
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

/** @param {string} tag @param {string} [text] @param {string} [className] @returns {HTMLElement} */
function html(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** @param {number} seconds @returns {string} */
function clock(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((n) => String(n).padStart(2, '0'));
  const hours = Math.floor(whole / 3600);
  return (hours ? `${hours}:` : '') + parts.join(':');
}

/** @param {Lane} lane @returns {string} */
function laneName(lane) {
  const parts = [];
  if (cameras.length > 1) parts.push(lane.camera);
  if (new Set(data.lanes.map((l) => l.prompt)).size > 1) parts.push(lane.prompt);
  if (lane.showsModel) parts.push(lane.model);
  return parts.join(' · ');
}

/** @param {Lane} lane @param {number} time @returns {number} index of the segment at a time, or -1 */
function indexAt(lane, time) {
  let low = 0;
  let high = lane.segments.length - 1;
  let found = -1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (lane.segments[middle][0] <= time + 1e-6) { found = middle; low = middle + 1; } else high = middle - 1;
  }
  return found;
}

/** @param {string} camera @param {number} time @returns {string} data URL of the nearest thumbnail before a time */
function thumbnail(camera, time) {
  const all = data.thumbnails[camera] || [];
  let best = all[0];
  for (const one of all) { if (one[0] <= time + 1e-6) best = one; else break; }
  return best ? `data:image/jpeg;base64,${best[1]}` : '';
}

/** @param {string} text @returns {boolean} */
function matches(text) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const all = text.toLowerCase();
  return words.every((word) => all.includes(word));
}

/** Show a moment. @param {number} time @param {boolean} [follow] whether to scroll to it */
function show(time, follow = true) {
  now = Math.min(Math.max(time, 0), duration);
  const camera = data.lanes.length ? data.lanes[0].camera : cameras[0];
  const picture = /** @type {HTMLImageElement} */ (element('picture'));
  picture.src = thumbnail(camera, now);
  picture.alt = `${camera} at ${clock(now)}`;
  element('clock').textContent = `${clock(now)} of ${clock(duration)}` + (cameras.length > 1 ? ` · ${camera}` : '');
  const current = element('current');
  current.replaceChildren();
  data.lanes.forEach((lane, number) => {
    const index = indexAt(lane, now);
    const item = html('li');
    item.dir = 'auto';
    const segment = lane.segments[index];
    if (segment && segment[2]) item.append(segment[2]);
    else item.append(html('span', segment ? 'no text (scene unfamiliar, or no sentence is near)' : 'no text yet', 'withheld'));
    const details = [laneName(lane), segment && segment[2] ? `confidence ${segment[3].toFixed(2)}` : ''];
    item.append(html('small', details.filter(Boolean).join(' · ')));
    current.append(item);
    mark(number, index);
  });
  const scroll = element('scroll');
  scroll.setAttribute('aria-valuemax', String(Math.round(duration)));
  scroll.setAttribute('aria-valuenow', String(Math.round(now)));
  scroll.setAttribute('aria-valuetext', clock(now));
  const cursor = document.querySelector('.cursor');
  const x = (now / duration) * width();
  if (cursor instanceof HTMLElement) cursor.style.left = `${x}px`;
  if (follow && (x < scroll.scrollLeft + 40 || x > scroll.scrollLeft + scroll.clientWidth - 40)) {
    scroll.scrollLeft = x - scroll.clientWidth / 3;
  }
  history.replaceState(null, '', `#t=${now.toFixed(1)}`);
}

/** @param {number} lane @param {number} index */
function mark(lane, index) {
  for (const old of document.querySelectorAll(`.segment[data-lane="${lane}"].on, tr[data-lane="${lane}"].on`)) {
    old.classList.remove('on');
  }
  for (const one of document.querySelectorAll(`[data-lane="${lane}"][data-index="${index}"]`)) one.classList.add('on');
}

/** @returns {number} width of the timeline in pixels */
function width() {
  return Math.max(element('scroll').clientWidth, 300) * zoom;
}

/** Draw the timeline. */
function draw() {
  const whole = width();
  const timeline = element('timeline');
  timeline.replaceChildren();
  timeline.style.width = `${whole}px`;
  timeline.append(ticks(whole));
  for (const camera of cameras) timeline.append(...strip(camera, whole));
  data.lanes.forEach((lane, number) => {
    const title = laneName(lane);
    if (title) timeline.append(label(title));
    timeline.append(segments(lane, number, whole));
    timeline.append(label('change (cosine distance)'), curve(lane.change, whole, 'change'));
    for (const [text, points] of lane.scores) timeline.append(label(`watch: ${text}`), curve(points, whole, 'score', 1));
    for (const [text, points] of lane.answers) timeline.append(label(`yes to: ${text}`), curve(points, whole, 'answer', 1));
  });
  timeline.append(html('div', '', 'cursor'));
  filter();
  show(now, false);
}

/** @param {string} text @returns {HTMLElement} */
function label(text) {
  const made = html('div', text, 'name');
  made.dir = 'auto';
  const row = html('div');
  row.append(made);
  return row;
}

/** @param {number} whole @returns {SVGElement} */
function ticks(whole) {
  const made = svg('svg', { width: whole, height: 20, 'aria-hidden': 'true' });
  const step = TICK_STEPS.find((s) => (s / duration) * whole >= 70) || 7200;
  for (let t = 0; t <= duration; t += step) {
    const x = (t / duration) * whole;
    made.append(svg('line', { x1: x, x2: x, y1: 14, y2: 20, class: 'grid' }));
    if (x < whole - 30) made.append(svg('text', { x: x + 3, y: 12, class: 'tick' }, clock(t)));
  }
  return made;
}

/** @param {string} camera @param {number} whole @returns {HTMLElement[]} */
function strip(camera, whole) {
  const made = html('div', '', 'strip');
  const images = data.thumbnails[camera];
  if (!images.length) return [];
  const step = THUMBNAIL_WIDTH;
  for (let x = 0; x < whole; x += step) {
    const image = document.createElement('img');
    image.loading = 'lazy';
    image.alt = '';
    image.src = thumbnail(camera, ((x + step / 2) / whole) * duration);
    image.style.left = `${x}px`;
    made.append(image);
  }
  return cameras.length > 1 ? [label(camera), made] : [made];
}

/** @param {Lane} lane @param {number} number @param {number} whole @returns {SVGElement} */
function segments(lane, number, whole) {
  const made = svg('svg', { width: whole, height: SEGMENT_HEIGHT, role: 'img', 'aria-label': 'segments' });
  lane.segments.forEach(([start, end, text, confidence], index) => {
    const x = (start / duration) * whole;
    const w = Math.max(((end - start) / duration) * whole, 1);
    const group = svg('g', { class: 'segment', 'data-lane': number, 'data-index': index });
    group.append(svg('rect', { x, y: 2, width: w, height: SEGMENT_HEIGHT - 4, rx: 3 }));
    group.append(svg('title', {}, `${clock(start)} - ${clock(end)}  ${text || 'no text'} (${confidence.toFixed(2)})`));
    const letters = Math.floor((w - 10) / 6.6);
    if (letters > 8 && text) {
      const cut = text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
      group.append(svg('text', { x: x + 5, y: 20 }, cut));
    }
    made.append(group);
  });
  return made;
}

/** @param {Curve} points @param {number} whole @param {string} kind @param {number} [top] @returns {SVGElement} */
function curve(points, whole, kind, top) {
  const made = svg('svg', { width: whole, height: CURVE_HEIGHT, 'aria-hidden': 'true' });
  const most = top || Math.max(0.1, ...points.map((p) => p[1]));
  const y = (/** @type {number} */ v) => CURVE_HEIGHT - 4 - (v / most) * (CURVE_HEIGHT - 10);
  made.append(svg('line', { x1: 0, x2: whole, y1: y(0), y2: y(0), class: 'grid' }));
  if (top) made.append(svg('line', { x1: 0, x2: whole, y1: y(0.5), y2: y(0.5), class: 'grid', 'stroke-dasharray': '2 4' }));
  const path = points.map(([t, v], i) => `${i ? 'L' : 'M'}${((t / duration) * whole).toFixed(1)} ${y(v).toFixed(1)}`).join('');
  made.append(svg('path', { d: path || 'M0 0', class: `curve ${kind}` }));
  return made;
}

/** Fill the table of segments. */
function list() {
  const rows = element('rows');
  rows.replaceChildren();
  root.classList.toggle('one-lane', data.lanes.length < 2);
  /** @type {[number, number, Segment][]} */
  const all = data.lanes.flatMap((lane, number) => lane.segments.map((s, i) => /** @type {[number, number, Segment]} */ ([number, i, s])));
  all.sort((a, b) => a[2][0] - b[2][0]);
  for (const [number, index, [start, end, text, confidence]] of all) {
    const row = document.createElement('tr');
    row.dataset.lane = String(number);
    row.dataset.index = String(index);
    const link = document.createElement('a');
    link.href = `#t=${start.toFixed(1)}`;
    link.textContent = `${clock(start)} – ${clock(end)}`;
    const cells = [html('td'), html('td', text || 'no text', text ? '' : 'withheld'), html('td', confidence.toFixed(2)), html('td', laneName(data.lanes[number]), 'lane')];
    cells[0].append(link);
    cells[1].dir = 'auto';
    row.append(...cells);
    rows.append(row);
  }
}

/** Apply the search to timeline and table. */
function filter() {
  let hits = 0;
  for (const row of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('#rows tr'))) {
    const text = data.lanes[Number(row.dataset.lane)].segments[Number(row.dataset.index)][2];
    const isHit = matches(text);
    row.hidden = !isHit;
    hits += isHit ? 1 : 0;
  }
  for (const one of document.querySelectorAll('.segment')) {
    const text = data.lanes[Number(one.getAttribute('data-lane'))].segments[Number(one.getAttribute('data-index'))][2];
    one.classList.toggle('hit', Boolean(query) && matches(text));
    one.classList.toggle('miss', Boolean(query) && !matches(text));
  }
  element('matches').textContent = query ? `${hits} ${hits === 1 ? 'segment' : 'segments'}` : '';
}

/** Show the figures of the recording. */
function figures() {
  const decodes = data.lanes.reduce((sum, lane) => sum + lane.decodes, 0);
  const count = data.lanes.reduce((sum, lane) => sum + lane.segments.length, 0);
  const lanes = Math.max(data.lanes.length, 1);
  const [[, everySecond], ...others] = data.uniform;
  /** @type {[string, string][]} */
  const shown = [
    ['Segments', `${count} (${((60 * count) / duration / lanes).toFixed(1)} a minute)`],
    ['Texts decoded', `${decodes}`],
    ['Decoding every second', `${everySecond * lanes} (${((everySecond * lanes) / Math.max(decodes, 1)).toFixed(1)} times as many)`],
    ...others.map(([period, n]) => /** @type {[string, string]} */ ([`Every ${period} s`, `${n * lanes}`])),
  ];
  for (const [term, value] of shown) {
    const group = html('div');
    group.append(html('dt', term), html('dd', value));
    element('figures').append(group);
  }
}

/** Go to the next or previous start of a segment of the first lane. @param {number} direction */
function step(direction) {
  const lane = data.lanes[0];
  if (!lane) return;
  const index = indexAt(lane, now);
  const next = lane.segments[direction > 0 ? index + 1 : now > (lane.segments[index] || [0])[0] + 0.05 ? index : index - 1];
  if (next) show(next[0]);
}

/** @param {number} factor */
function rescale(factor) {
  zoom = Math.min(Math.max(zoom * factor, 1), Math.max(1, (duration * 40) / width() * zoom));
  draw();
  show(now);
}

/** @returns {number} the time in the address; without one, the start of the first segment */
function addressed() {
  const found = /[#&]t=([\d.]+)/.exec(location.hash);
  if (found) return Number(found[1]);
  return data.lanes.length && data.lanes[0].segments.length ? data.lanes[0].segments[0][0] : 0;
}

element('title').textContent = data.title;
element('about').textContent = [
  `${clock(duration)} from ${data.started}`,
  cameras.length > 1 ? `${cameras.length} cameras` : '',
  [...new Set(data.lanes.map((lane) => lane.model))].join(', '),
].filter(Boolean).join(' · ');

root.dataset.theme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
element('theme').addEventListener('click', () => {
  root.dataset.theme = root.dataset.theme === 'dark' ? 'light' : 'dark';
});
element('scroll').addEventListener('pointerdown', (event) => {
  const box = element('timeline').getBoundingClientRect();
  if (event.clientY < element('scroll').getBoundingClientRect().top + element('scroll').clientHeight) {
    show(((event.clientX - box.left) / box.width) * duration, false);
  }
});
element('search').addEventListener('input', (event) => {
  query = /** @type {HTMLInputElement} */ (event.target).value.trim();
  filter();
});
document.addEventListener('keydown', (event) => {
  const isTyping = document.activeElement === element('search');
  if (event.key === 'Escape' && isTyping) element('search').blur();
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = /** @type {Record<string, () => void>} */ ({
    ArrowRight: () => step(1),
    ArrowLeft: () => step(-1),
    Home: () => show(0),
    End: () => show(duration),
    '/': () => element('search').focus(),
    '+': () => rescale(2),
    '-': () => rescale(0.5),
  });
  if (actions[event.key]) {
    actions[event.key]();
    event.preventDefault();
  }
});
addEventListener('hashchange', () => show(addressed()));
addEventListener('resize', draw);
figures();
list();
const first = addressed();
draw();
show(first);
