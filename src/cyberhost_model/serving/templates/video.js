const POLL = 500; // milliseconds between looks at a video that is being made
const byId = (id) => document.getElementById(id);
const show = (element, shown) => { element.hidden = !shown; };
const given = {}; // field of a file -> the file that is sent
let current = null; // id of the video that is shown

class Refused extends Error {}

async function ask(path, options = {}) {
  const token = byId("token").value;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("the server does not answer");
  }
  if (answer.status === 401) show(byId("locked"), true);
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw new Refused(told ? `${told.error.message} (${told.error.code})` : `the server answers with ${answer.status}`);
  }
  return answer;
}

function tell(error) {
  byId("error").textContent = error ? error.message : "";
  show(byId("error"), Boolean(error));
}

function give(field, file) {
  given[field] = file;
  const shown = { image_reference: byId("picture"), audio_reference: byId("sound") }[field];
  if (!shown) return;
  if (shown.src) URL.revokeObjectURL(shown.src);
  show(shown, Boolean(file));
  if (file) shown.src = URL.createObjectURL(file);
  else shown.removeAttribute("src");
}

for (const input of document.querySelectorAll("input[type=file]"))
  input.addEventListener("change", () => give(input.name, input.files[0]));

// The browser gives webcam and microphone to pages of this machine and of https alone.
const devices = navigator.mediaDevices;
show(byId("webcam"), Boolean(devices));
show(byId("microphone"), Boolean(devices) && "MediaRecorder" in window);

byId("webcam").addEventListener("click", async () => {
  const camera = byId("camera"), button = byId("webcam");
  try {
    if (!camera.srcObject) {
      camera.srcObject = await devices.getUserMedia({ video: true });
      await camera.play();
      show(camera, true);
      button.textContent = "Take the picture";
      return;
    }
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [camera.videoWidth, camera.videoHeight];
    canvas.getContext("2d").drawImage(camera, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    give("image_reference", new File([blob], "webcam.png", { type: "image/png" }));
    camera.srcObject.getTracks().forEach((track) => track.stop());
    camera.srcObject = null;
    show(camera, false);
    button.textContent = "Use the webcam";
  } catch (error) {
    tell(error);
  }
});

let recorder = null;
byId("microphone").addEventListener("click", async () => {
  const button = byId("microphone");
  try {
    if (recorder) {
      recorder.stop();
      return;
    }
    const stream = await devices.getUserMedia({ audio: true });
    const parts = [];
    recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    recorder.addEventListener("stop", () => {
      stream.getTracks().forEach((track) => track.stop());
      give("audio_reference", new File(parts, "recording.webm", { type: recorder.mimeType }));
      recorder = null;
      button.textContent = "Record again";
    });
    recorder.start();
    button.textContent = "Stop recording";
  } catch (error) {
    tell(error);
  }
});

byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (byId("form").dataset.tab !== "recorded") return; // the key Enter in the other tab
  tell(null);
  const form = new FormData();
  for (const [name, value] of new FormData(byId("form")))
    if (typeof value === "string" && value) form.append(name, value);
  for (const [field, file] of Object.entries(given))
    if (file) form.append(field, file, file.name);
  byId("make").disabled = true;
  try {
    follow(await (await ask("/v1/videos", { method: "POST", body: form })).json());
  } catch (error) {
    tell(error);
  }
  byId("make").disabled = false;
});

// The id is kept in the page's address, so that a page that is loaded again goes on with its video.
async function follow(job) {
  const id = current = job.id;
  history.replaceState(null, "", `#${id}`);
  show(byId("video"), false);
  byId("video").removeAttribute("src");
  show(byId("done"), false);
  show(byId("job"), true);
  try {
    while (draw(job) && current === id) {
      await new Promise((done) => setTimeout(done, POLL));
      if (current !== id) return;
      job = await look(id);
    }
    if (job.status === "completed" && current === id) await play(id);
  } catch (error) {
    if (current === id) tell(error);
  }
}

async function look(id) {
  for (let missed = 0; ; missed++) {
    try {
      return await (await ask(`/v1/videos/${encodeURIComponent(id)}`)).json();
    } catch (error) {
      if (error instanceof Refused || missed === 20) throw error; // a server that is started again takes a moment
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
}

function draw(job) {
  const words = {
    queued: job.waiting_before ? `waiting, ${job.waiting_before} before it` : "waiting",
    in_progress: `${job.progress} %`,
    completed: `${job.seconds} s of ${job.size}`,
    failed: "failed",
  };
  byId("progress").value = job.progress;
  byId("status").textContent = words[job.status];
  byId("command").textContent = job.command;
  byId("warnings").replaceChildren(...job.warnings.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
  const going = job.status === "queued" || job.status === "in_progress";
  byId("remove").textContent = going ? "Cancel" : "Remove";
  if (job.error) tell(new Error(`${job.error.message} (${job.error.code})`));
  return going;
}

async function play(id) {
  const blob = await (await ask(`/v1/videos/${encodeURIComponent(id)}/content`)).blob();
  byId("video").src = byId("save").href = URL.createObjectURL(blob);
  const alpha = blob.type === "video/webm";
  byId("video").classList.toggle("alpha", alpha);
  byId("save").download = alpha ? "video.webm" : "video.mp4";
  show(byId("video"), true);
  show(byId("done"), true);
}

byId("remove").addEventListener("click", async () => {
  const id = current;
  current = null;
  history.replaceState(null, "", location.pathname);
  show(byId("job"), false);
  tell(null);
  try {
    await ask(`/v1/videos/${encodeURIComponent(id)}`, { method: "DELETE" });
  } catch (error) {
    tell(error);
  }
});

if (/^#video_[0-9a-f]+$/.test(location.hash)) {
  const id = location.hash.slice(1);
  look(id).then(follow, tell);
}
