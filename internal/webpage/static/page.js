'use strict';

const $ = (id) => document.getElementById(id);
const dark = matchMedia('(prefers-color-scheme: dark)');
const number = new Intl.NumberFormat('en');
const rate = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

const sayings = ['held elsewhere', 'held, not in force', 'in force, not open', 'open'];
const keep = 120; // seconds of past states

let placement = null; // the last event of that name
let state = null;
let past = []; // states of the last two minutes
let placedAt = 0;

// set replaces the children of an element only where the text changed, so that nothing is read out twice.
function set(element, children) {
  const next = document.createElement(element.tagName);
  next.append(...children);
  if (next.innerHTML !== element.innerHTML) element.replaceChildren(...children);
}

function make(tag, text, className) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

function row(first, ...cells) {
  const tr = document.createElement('tr');
  const th = make('th', first);
  th.scope = 'row';
  tr.append(th);
  for (const c of cells) {
    const td = document.createElement('td');
    td.append(c);
    tr.append(td);
  }
  return tr;
}

function pairs(list) {
  return list.flatMap(([name, value, className]) => [make('dt', name), make('dd', value, className)]);
}

// hue gives neighbours in a list colours far apart: steps of the golden angle.
function hue(i) {
  return `hsl(${(i * 137.508 + 200) % 360} 55% ${dark.matches ? 62 : 42}%)`;
}

function stateColour(s) {
  const style = getComputedStyle(document.documentElement);
  return style.getPropertyValue(['--line', '--bad', '--wait', '--good'][s]).trim();
}

// colouring returns the colour of each shard, and what the colours mean.
function colouring(by) {
  const { ids, owners, runs } = placement;
  if (by === 'state') {
    const of = [];
    const counts = [0, 0, 0, 0];
    for (const [s, n] of runs) {
      counts[s] += n;
      for (let i = 0; i < n; i++) of.push(stateColour(s));
    }
    return [of, sayings.map((name, s) => [stateColour(s), `${name}: ${number.format(counts[s])}`])];
  }
  const zoneOf = new Map(state.members.map((m) => [m.id, m.zone || 'no zone']));
  const names = by === 'zone' ? ids.map((id) => zoneOf.get(id) || 'no zone') : ids;
  const distinct = [...new Set(names)].sort();
  const colour = new Map(distinct.map((name, i) => [name, hue(i)]));
  const counts = new Map();
  const of = owners.map((o) => {
    counts.set(names[o], (counts.get(names[o]) || 0) + 1);
    return colour.get(names[o]);
  });
  return [of, distinct.map((name) => [colour.get(name), `${name}: ${number.format(counts.get(name) || 0)}`])];
}

function drawRing() {
  if (!placement || !state) return;
  const by = document.querySelector('input[name=by]:checked').value;
  const [of, legend] = colouring(by);
  const canvas = $('ring');
  const g = canvas.getContext('2d');
  const { width, height } = canvas;
  const [x, y, outer, inner] = [width / 2, height / 2, width / 2 - 6, width / 2 - 190];
  g.clearRect(0, 0, width, height);
  // Shards go around by their number; in each step outwards are some neighbours, so that one can be seen.
  const rows = Math.max(1, Math.round(Math.sqrt(of.length) / 4));
  const angle = (i) => (Math.floor(i / rows) / Math.ceil(of.length / rows)) * 2 * Math.PI - Math.PI / 2;
  const radius = (row) => inner + ((outer - inner) * row) / rows;
  of.forEach((colour, i) => {
    const row = i % rows;
    g.beginPath();
    g.arc(x, y, radius(row + 1) - 0.5, angle(i), angle(i + rows) + 0.002);
    g.arc(x, y, radius(row), angle(i + rows) + 0.002, angle(i), true);
    g.fillStyle = colour;
    g.fill();
  });
  g.fillStyle = getComputedStyle(document.body).color;
  g.textAlign = 'center';
  g.font = '600 30px system-ui, sans-serif';
  g.fillText(`${number.format(of.length)} shards`, x, y - 8);
  g.font = '22px system-ui, sans-serif';
  g.fillText(`${state.replicas} holders each`, x, y + 26);
  const words = legend.map(([, text]) => text).join('; ');
  canvas.setAttribute('aria-label', `The ${of.length} shards of the pool around a circle. ${words}`);
  set($('legend'), legend.map(([colour, text]) => {
    const li = document.createElement('li');
    const swatch = make('span', '', 'swatch');
    swatch.style.background = colour;
    li.append(swatch, text);
    return li;
  }));
}

function drawMembers() {
  const mean = state.members.reduce((sum, m) => sum + m.held, 0) / Math.max(1, state.members.filter((m) => m.state === 'serving').length);
  set($('members'), state.members.map((m) => {
    const meter = document.createElement('meter');
    meter.max = Math.max(2 * mean, 1);
    meter.value = m.held;
    meter.setAttribute('aria-label', `shards of ${m.id}`);
    const of = mean > 0 ? `${Math.round((100 * m.held) / mean)} %` : '';
    const bar = document.createElement('span');
    bar.append(meter, ' ', of);
    const word = make('span', m.state, { serving: 'good', leaving: 'wait', joining: 'wait' }[m.state]);
    return row(m.id === state.id ? `${m.id} (this one)` : m.id, word, m.zone || '', m.seat ? 'yes' : '', m.addr, number.format(m.held), bar);
  }));
}

function drawHere() {
  const h = state.here;
  set($('shards'), pairs([
    ['held', number.format(h.held)],
    ['in force', number.format(h.in_force), h.in_force === h.held ? 'good' : 'wait'],
    ['open', number.format(h.open), h.open === h.held ? 'good' : 'wait'],
    ['claims of sessions', number.format(h.claims)],
    ['unary claims', number.format(h.unary_claims)],
    ['sessions', number.format(h.sessions)],
    ['proxies heard of', number.format(h.proxies)],
    ['stalled proxies', number.format(h.stalled), h.stalled ? 'bad' : undefined],
    ['seat', h.seat ? (h.granting ? 'grants' : `silent for ${rate.format(h.silence)} s`) : 'no', h.seat && !h.granting ? 'wait' : undefined],
  ]));
  const left = h.held - h.open;
  let moving = left === 0 ? 'Every shard held here is open: misses are answered ABSENT.' : `${number.format(left)} shards are on their way to open.`;
  if (left > 0 && placedAt) moving += ` The view changed ${Math.round((Date.now() - placedAt) / 1000)} s ago.`;
  if ($('moving').textContent !== moving) $('moving').textContent = moving;
}

// perSecond returns how fast a count grew between the last two states.
function perSecond(of) {
  if (past.length < 2) return 0;
  const [a, b] = past.slice(-2);
  return Math.max(0, (of(b.counts) - of(a.counts)) / Math.max(0.001, (b.at - a.at) / 1000));
}

const lookups = (c) => c.found + c.absent + c.unknown;

function drawTraffic() {
  set($('traffic'), pairs([
    ['lookups a second', rate.format(perSecond(lookups))],
    ['of them FOUND', rate.format(perSecond((c) => c.found))],
    ['ABSENT', rate.format(perSecond((c) => c.absent))],
    ['UNKNOWN', rate.format(perSecond((c) => c.unknown)), perSecond((c) => c.unknown) > 0 ? 'wait' : undefined],
    ['claims written a second', rate.format(perSecond((c) => c.ops))],
    ['sums that differed, ever', number.format(state.counts.differs)],
    ['refused for lack of room, ever', number.format(state.counts.refused)],
  ]));
  const canvas = $('spark');
  const g = canvas.getContext('2d');
  g.clearRect(0, 0, canvas.width, canvas.height);
  const points = [];
  for (let i = 1; i < past.length; i++) {
    const [a, b] = [past[i - 1], past[i]];
    points.push(Math.max(0, (lookups(b.counts) - lookups(a.counts)) / Math.max(0.001, (b.at - a.at) / 1000)));
  }
  const top = Math.max(1, ...points);
  g.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue('--link');
  g.lineWidth = 3;
  g.beginPath();
  points.forEach((p, i) => g.lineTo(((i + keep - points.length) / (keep - 1)) * canvas.width, canvas.height - 4 - (p / top) * (canvas.height - 28)));
  g.stroke();
  g.fillStyle = getComputedStyle(document.body).color;
  g.font = '18px system-ui, sans-serif';
  g.fillText(`most: ${rate.format(top)}/s`, 4, 18);
  canvas.setAttribute('aria-label', `Lookups a second over the last two minutes: now ${rate.format(points.at(-1) || 0)}, at most ${rate.format(top)}`);
}

function drawProxies() {
  const shown = state.proxies.length;
  $('proxies-note').textContent = shown < state.proxies_total ? `The ${shown} with most claims of ${number.format(state.proxies_total)}.` : '';
  set($('proxies'), state.proxies.map((p) => row(p.id, p.addr, make('span', p.session ? 'yes' : 'none', p.session ? 'good' : 'wait'), number.format(p.claims))));
}

function draw() {
  if (!state) return;
  document.title = `${state.id} · ${state.pool}`;
  $('pool').textContent = state.pool;
  $('self').textContent = `tracker ${state.id}${state.zone ? `, zone ${state.zone}` : ''}, ${state.version}, view ${state.view}`;
  drawMembers();
  drawHere();
  drawTraffic();
  drawProxies();
  drawRing();
}

function say(text, className) {
  const live = $('live');
  if (live.textContent !== text) live.textContent = text;
  live.className = className;
}

const events = new EventSource('events');
events.addEventListener('placement', (e) => {
  const before = placement;
  placement = JSON.parse(e.data);
  if (before && before.view !== placement.view) placedAt = Date.now();
  drawRing();
});
events.addEventListener('state', (e) => {
  state = JSON.parse(e.data);
  state.at = Date.now();
  past.push(state);
  if (past.length > keep + 1) past.shift();
  say(state.ready ? 'ready' : `not ready: ${state.why}`, state.ready ? 'good' : 'wait');
  draw();
});
events.onerror = () => {
  past = []; // counts of another life of the tracker do not go on from these
  say('no connection to the tracker; trying again', 'bad');
};

for (const radio of document.querySelectorAll('input[name=by]')) radio.addEventListener('change', drawRing);
dark.addEventListener('change', draw);

$('ask').addEventListener('submit', async (e) => {
  e.preventDefault();
  const steps = $('steps');
  try {
    const response = await fetch(`explain?node=${encodeURIComponent($('node').value)}`);
    if (!response.ok) throw new Error((await response.text()).trim());
    steps.replaceChildren(...(await response.json()).steps.map((text) => make('li', text)));
  } catch (err) {
    steps.replaceChildren(make('li', err.message, 'bad'));
  }
});
