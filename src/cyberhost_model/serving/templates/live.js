
// Live: samples of the microphone go to the server, and pieces of the video come back while one speaks.
const MOST_BEHIND = 10; // seconds of speech that wait for their video; what is said beyond them is left out
const KEPT = 10; // seconds of video that the player keeps of what was shown
const Source = window.MediaSource || window.ManagedMediaSource;
const CAPTURE = `registerProcessor("capture", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Int16Array(2048);
    this.filled = 0;
  }
  process(inputs) {
    for (const sample of inputs[0][0] || []) {
      this.piece[this.filled++] = 32767 * Math.max(-1, Math.min(1, sample));
      if (this.filled < this.piece.length) continue;
      this.port.postMessage(this.piece.slice());
      this.filled = 0;
    }
    return true;
  }
});`;
let talk = null; // the session that is open

// Shows pieces of an MP4 as they come.
class Player {
  constructor(video, mime) {
    this.video = video;
    this.waiting = [];
    this.ending = false;
    this.source = new Source();
    this.source.addEventListener("sourceopen", () => {
      if (this.buffer) return;
      this.buffer = this.source.addSourceBuffer(mime);
      this.buffer.addEventListener("updateend", () => this.next());
      this.next();
    });
    if (video.src) URL.revokeObjectURL(video.src);
    video.disableRemotePlayback = true; // Safari asks for it
    video.src = URL.createObjectURL(this.source);
    video.play().catch(tell);
  }

  add(piece) {
    this.waiting.push(piece);
    this.next();
  }

  end() {
    this.ending = true;
    this.next();
  }

  next() {
    const { buffer, source, video } = this;
    if (!buffer || buffer.updating || source.readyState !== "open") return;
    const shown = video.currentTime, kept = buffer.buffered;
    if (kept.length && shown - kept.start(0) > 2 * KEPT) buffer.remove(0, shown - KEPT);
    else if (this.waiting.length) buffer.appendBuffer(this.waiting.shift());
    else if (this.ending) source.endOfStream();
  }

  // Leave out what was dropped: the next piece is shown at once.
  skip() {
    const kept = this.buffer ? this.buffer.buffered : [];
    if (kept.length) this.video.currentTime = Math.max(this.video.currentTime, kept.end(kept.length - 1) - 0.1);
  }
}

class Talk {
  constructor() {
    this.sent = this.shown = 0; // seconds
    this.ready = this.ended = this.over = this.lags = false;
  }

  async begin(picture, options) {
    this.stream = await devices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true } });
    this.context = new AudioContext();
    const code = URL.createObjectURL(new Blob([CAPTURE], { type: "text/javascript" }));
    await this.context.audioWorklet.addModule(code);
    URL.revokeObjectURL(code);
    this.capture = new AudioWorkletNode(this.context, "capture");
    this.capture.port.addEventListener("message", (event) => this.send(event.data));
    if (this.over) { // stopped before the browser gave the microphone
      this.release();
      return;
    }
    this.socket = new WebSocket(`${location.origin.replace("http", "ws")}/v1/sessions`);
    this.socket.binaryType = "arraybuffer";
    this.socket.addEventListener("open", () => {
      const token = byId("token").value;
      const start = { type: "start", rate: this.context.sampleRate, ...options, ...(token && { token }) };
      this.socket.send(JSON.stringify(start));
      this.socket.send(picture);
    });
    this.socket.addEventListener("message", (event) => {
      if (typeof event.data === "string") this.told(JSON.parse(event.data));
      else this.player.add(event.data);
    });
    this.socket.addEventListener("close", () => {
      if (!this.over) tell(new Error("the connection to the server broke off"));
      this.close();
    });
    byId("stage-status").textContent = "the picture is prepared";
  }

  send(piece) {
    if (!this.ready || this.ended || this.socket.readyState !== WebSocket.OPEN) return;
    this.lags = this.sent - this.shown > MOST_BEHIND;
    if (this.lags) return;
    this.sent += piece.length / this.context.sampleRate;
    this.socket.send(piece);
  }

  told(message) {
    const status = byId("stage-status");
    if (message.type === "ready") {
      this.ready = true;
      this.context.createMediaStreamSource(this.stream).connect(this.capture);
      this.capture.connect(this.context.destination); // silent; what leads nowhere may not be run
      this.capture.port.start();
      status.textContent = `speak; the video is ${message.size} and follows after ${message.delay.toFixed(1)} s and more`;
    } else if (message.type === "video") {
      show(byId("stage"), true);
      this.player = new Player(byId("stage"), message.mime);
    } else if (message.type === "state") {
      [this.sent, this.shown] = [message.heard, message.time];
      const behind = `${Math.max(0, this.sent - this.shown).toFixed(1)} s of speech wait`;
      status.textContent = this.lags ? `${behind}: this is too slow, words are left out` : behind;
    } else if (message.type === "interrupted") {
      this.sent = this.shown = message.time;
      if (this.player) this.player.skip();
    } else if (message.type === "ended") {
      this.over = true;
      status.textContent = `${message.time.toFixed(1)} s in ${message.frames} frames`;
    } else if (message.type === "error") {
      this.over = true;
      if (message.error.code === "unauthorized") show(byId("locked"), true);
      status.textContent = "";
      tell(new Error(`${message.error.message} (${message.error.code})`));
    }
  }

  command(type) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type }));
  }

  // No more sound: the rest of the video still comes.
  end() {
    this.ended = true; // a piece that is on its way here comes too late
    this.release();
    if (this.ready) this.command("end");
    else this.close();
  }

  release() {
    if (this.stream) this.stream.getTracks().forEach((track) => track.stop());
    if (this.context && this.context.state !== "closed") this.context.close();
    byId("speak").textContent = "Speak";
    show(byId("skip"), false);
  }

  close() {
    this.over = true;
    this.release();
    if (this.socket) this.socket.close();
    if (this.player) this.player.end();
    if (talk === this) talk = null;
    byId("speak").disabled = false;
  }
}

function chooseTab(name) {
  byId("form").dataset.tab = name;
  for (const tab of ["recorded", "live"]) byId(`${tab}-tab`).setAttribute("aria-selected", String(tab === name));
}

for (const tab of ["recorded", "live"]) byId(`${tab}-tab`).addEventListener("click", () => chooseTab(tab));

const lacking = !devices ? "a microphone, which browsers give only to pages of this machine and of https"
  : !window.AudioWorkletNode ? "sound in pieces (AudioWorklet)"
  : !Source || !Source.isTypeSupported('video/mp4; codecs="avc1.64000c, mp4a.40.2"') ? "a player for video in pieces (MediaSource)"
  : null;
if (lacking) {
  byId("lacking").textContent = `Live speech cannot be used: this browser has no ${lacking}.`;
  show(byId("lacking"), true);
  show(byId("talk"), false);
}

byId("speak").addEventListener("click", async () => {
  if (talk) {
    byId("speak").disabled = talk.ready; // until the rest has come
    talk.end();
    return;
  }
  tell(null);
  if (!given.image_reference) {
    tell(new Error("choose a picture first"));
    return;
  }
  const options = {};
  for (const field of document.querySelectorAll("label:not(.recorded) > [name]"))
    if (field.value) options[field.name] = field.value;
  options.low_delay = options.keep_up = true;
  talk = new Talk();
  byId("speak").textContent = "Stop";
  show(byId("skip"), true);
  try {
    await talk.begin(given.image_reference, options);
  } catch (error) {
    tell(error);
    talk.close();
  }
});

byId("skip").addEventListener("click", () => talk && talk.command("interrupt"));
