// Strict; `BONES` (the lines of a skeleton) stands before this.
// Players of a card run together, and a canvas over each player draws the key points of the frame it shows.
for (const card of document.querySelectorAll("[data-card]")) {
  const films = [...card.querySelectorAll("video")];
  const play = card.querySelector("[data-play]");
  const skeleton = card.querySelector("[data-skeleton]");
  const seek = card.querySelector("[data-seek]");
  const overlays = films.map(overlay);
  const redraw = () => {
    overlays.forEach((draw) => draw(skeleton !== null && skeleton.checked));
    if (seek === null || films[0].seeking) return;
    seek.value = films[0].currentTime;
    card.querySelector("[data-at]").textContent = films[0].currentTime.toFixed(1) + " s";
  };

  films.forEach((film) => {
    const ready = () => { film.dataset.seconds = film.duration; film.dataset.ready = film.readyState; seek.max = Math.max(...films.map((f) => f.duration || 0)); redraw(); };
    film.addEventListener("loadeddata", ready);
    film.addEventListener("seeked", redraw);
    film.addEventListener("error", () => { film.closest("figure").querySelector("[data-broken]").hidden = false; });
    const follow = () => { redraw(); if (!film.paused && !film.ended) next(film, follow); };
    film.addEventListener("playing", follow);
    if (film.readyState >= 2) ready();
  });
  if (skeleton !== null) skeleton.addEventListener("change", redraw);

  if (play !== null) {
    const running = () => films.some((film) => !film.paused && !film.ended);
    const label = () => { play.textContent = running() ? "Pause" : films.length > 1 ? "Play both" : "Play"; };
    films.forEach((film) => ["playing", "pause", "ended"].forEach((what) => film.addEventListener(what, label)));
    films.forEach((film) => film.addEventListener("click", () => play.click()));
    seek.addEventListener("input", () => films.forEach((film) => { film.pause(); film.currentTime = Number(seek.value); }));
    play.addEventListener("click", () => {
      if (running()) return films.forEach((film) => film.pause());
      const from = films.some((film) => film.ended) ? 0 : films[0].currentTime;
      films.forEach((film) => { film.currentTime = from; film.play().catch(() => {}); });
    });
  }
  for (const jump of card.querySelectorAll("[data-jump]")) {
    jump.addEventListener("click", () => films.forEach((film) => {
      film.currentTime = Number(jump.dataset.jump);
      film.scrollIntoView({block: "nearest"});
      film.play().catch(() => {});
    }));
  }
}

function next(film, call) {
  if ("requestVideoFrameCallback" in film) film.requestVideoFrameCallback(call);
  else requestAnimationFrame(call);
}

// Returns a function that draws (or clears) the key points over a player.
function overlay(film) {
  const canvas = film.parentElement.querySelector("canvas");
  if (canvas === null) return () => {};
  const bytes = Uint8Array.from(atob(canvas.dataset.points), (letter) => letter.charCodeAt(0));
  const points = new DataView(bytes.buffer);
  const count = BONES.points, frames = bytes.length / count / 4;
  return (wanted) => {
    const pen = canvas.getContext("2d");
    if (!wanted || film.readyState < 2) { pen.clearRect(0, 0, canvas.width, canvas.height); return; }
    canvas.width = film.videoWidth * 2;
    canvas.height = film.videoHeight * 2;
    pen.lineCap = "round";
    const time = film.currentTime + Number(canvas.dataset.start);
    const frame = Math.max(0, Math.min(frames - 1, Math.floor(time * Number(canvas.dataset.fps) + 0.01)));
    const at = (point) => [0, 2].map((byte, axis) => {
      const value = points.getUint16((frame * count + point) * 4 + byte, true);
      return value === 65535 ? NaN : (value / 65534 * 3 - 1) * (axis ? canvas.height : canvas.width);
    });
    for (const [from, to, colour, width] of BONES.lines) {
      const [a, b] = [at(from), at(to)];
      if (Number.isNaN(a[0]) || Number.isNaN(b[0])) continue;
      pen.strokeStyle = colour;
      pen.lineWidth = Math.max(1, width / 1000 * canvas.height);
      pen.beginPath();
      pen.moveTo(...a);
      pen.lineTo(...b);
      pen.stroke();
    }
  };
}
