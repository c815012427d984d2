"""The web interface: `/v1/videos` in the form that other programs for video have, live sessions, health and metrics.

docs/user/serve.md describes it. A video is known by its id alone, which nobody can guess; jobs are not listed.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cyberhost_model.options import options_of
from cyberhost_model.serving.command import command_of
from cyberhost_model.serving.failures import RequestFailed, failure_of
from cyberhost_model.serving.guard import Guard
from cyberhost_model.serving.metrics import CONTENT_TYPE, metrics_text
from cyberhost_model.serving.queue import JobQueue
from cyberhost_model.serving.sessions import Sessions
from cyberhost_model.serving.settings import ServedModel, ServingConfig, VideoOptions
from cyberhost_model.serving.store import COMPLETED, FINISHED, QUEUED, VideoJob
from cyberhost_model.serving.uploads import (
    FILES,
    REQUIRED,
    check_files,
    check_together,
    client_name,
    keep_file,
    read_options,
)

T = TypeVar("T")
_POLL_SECONDS = 0.1  # between looks at a job that somebody waits for
_UPLOAD_SECONDS = 600  # for one upload; a client that sends nothing holds its place no longer
_RETRY = {"Retry-After": "10"}
_TEXT_BYTES = 1 << 16  # of a field that is no file
_MEDIA_TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}


def build_app(
    queue: JobQueue,
    config: ServingConfig,
    model: ServedModel,
    page: str | None = None,
    sessions: Sessions | None = None,
) -> FastAPI:
    """Build the application of a queue; the queue runs while the application does.

    page: HTML for `/`. sessions: what takes live sessions; None: nothing does.
    """
    videos = Videos(queue, config, model)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with queue:
            yield

    # The pages that FastAPI makes of the description fetch scripts from elsewhere.
    app = FastAPI(title="CyberHost", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_exception_handler(RequestFailed, videos.answer_failure)
    app.add_exception_handler(HTTPException, videos.answer_http)
    app.add_exception_handler(Exception, videos.answer_unexpected)
    app.add_middleware(Guard, config=config, answer=videos.answer, received=partial(queue.counters.add, "uploaded"))
    form = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form_schema()}}}}
    routes: list[tuple[str, str, Callable[..., Any], dict[str, Any]]] = [
        ("POST", "/v1/videos", videos.create, {"openapi_extra": form}),
        ("POST", "/v1/videos/sync", videos.create_and_wait, {"openapi_extra": form, "response_class": FileResponse}),
        ("GET", "/v1/videos/{identity}", videos.show, {}),
        ("GET", "/v1/videos/{identity}/content", videos.content, {"response_class": FileResponse}),
        ("DELETE", "/v1/videos/{identity}", videos.delete, {}),
        ("GET", "/v1/models", videos.models, {}),
        ("GET", "/health", videos.health, {}),
        ("GET", "/metrics", videos.metrics, {"response_class": PlainTextResponse}),
    ]
    for method, path, endpoint, more in routes:
        app.add_api_route(path, endpoint, methods=[method], **more)
    if sessions is not None:
        app.add_api_websocket_route("/v1/sessions", sessions.talk)
    if page is not None:
        app.add_api_route("/", lambda: HTMLResponse(page), include_in_schema=False)
    return app


def form_schema() -> dict[str, Any]:
    """Describe the fields of `POST /v1/videos` in OpenAPI, from the declarations of the options."""
    fields: dict[str, Any] = {name: {"type": "string", "format": "binary"} for name in FILES}
    for name, rule in options_of(VideoOptions).items():
        fields[name] = {"type": "string", "description": rule.help}
    return {"type": "object", "properties": fields, "required": list(REQUIRED)}


class Videos:
    """The endpoints, one method each."""

    def __init__(self, queue: JobQueue, config: ServingConfig, model: ServedModel) -> None:
        self.queue, self.config, self.model = queue, config, model
        self.started, self._uploads = int(time.time()), 0
        self._checks = anyio.CapacityLimiter(1)  # pictures that are decoded at once: each may be large

    async def create(self, request: Request) -> dict[str, Any]:
        """Let a video be made: answers at once, with its id."""
        return self.describe(await self._accept(request))

    async def create_and_wait(self, request: Request) -> Response:
        """Make a video and answer with it. It is removed afterwards, and also where the client does not wait."""
        identity = (await self._accept(request)).id
        handed_over = False
        try:
            while (job := self._find(identity)).status not in FINISHED:
                if await request.is_disconnected():
                    raise _gone()
                await asyncio.sleep(_POLL_SECONDS)
            if job.failure is not None:
                raise RequestFailed(job.failure.status, job.failure.code, job.failure.message, job.failure.param)
            handed_over = True
            return self._file(job, BackgroundTask(self.queue.remove, identity))
        finally:
            if not handed_over:
                self.queue.remove(identity)

    async def show(self, identity: str) -> dict[str, Any]:
        """Say how far a video is."""
        return self.describe(self._find(identity))

    async def content(self, identity: str) -> Response:
        """Answer with the finished video."""
        job = self._find(identity)
        if job.status != COMPLETED:
            what = f"failed: {job.failure.message}" if job.failure is not None else f"is {job.status}, not completed"
            raise RequestFailed(409, "not_completed", f"the video {what}")
        return self._file(job)

    async def delete(self, identity: str) -> dict[str, Any]:
        """Remove a video and its inputs; one that is being made is stopped."""
        if not self.queue.remove(self._find(identity).id):
            raise _unknown()
        return {"id": identity, "object": "video.deleted", "deleted": True}

    async def models(self) -> dict[str, Any]:
        """List the one model that is served."""
        entry = {"id": self.model.name, "object": "model", "created": self.started, "owned_by": "cyberhost"}
        return {"object": "list", "data": [entry]}

    async def health(self) -> dict[str, Any]:
        """Say that the server runs, and how much waits."""
        counts = self.queue.store.counts()
        return {"status": "ok", "waiting": counts[QUEUED], "full": self.queue.full}

    async def metrics(self) -> Response:
        """Count what was done, for Prometheus."""
        text = metrics_text(self.queue.counters, self.queue.store.counts())
        return PlainTextResponse(text, media_type=CONTENT_TYPE)

    def describe(self, job: VideoJob) -> dict[str, Any]:
        """Make the object that describes a video."""
        made, failure = job.made, job.failure
        return {
            "id": job.id,
            "object": "video",
            "model": self.model.name,
            "status": job.status,
            "progress": int(100 * self.queue.progress(job)),
            "waiting_before": self.queue.store.place_in_line(job.id) if job.status == QUEUED else 0,
            "created_at": int(job.created),
            "completed_at": None if job.finished is None else int(job.finished),
            "expires_at": None if job.finished is None else int(job.finished + 3600 * self.config.keep_hours),
            "seconds": f"{made.get('duration', job.sound_seconds):.2f}",
            "size": "x".join(map(str, made["size"])) if made else None,
            "fps": made.get("fps", job.options.get("fps", VideoOptions.fps)),
            "frames": made.get("frames"),
            "seed": job.options.get("seed", VideoOptions.seed),
            "warnings": job.warnings,
            "error": None if failure is None else {"code": failure.code, "message": failure.message},
            "command": command_of(job, self.model),
        }

    def answer(self, failed: RequestFailed) -> JSONResponse:
        """Answer with a failure."""
        self.queue.counters.add("refused")
        return JSONResponse(failed.failure.body(), failed.failure.status, failed.headers)

    async def answer_failure(self, request: Request, failed: Exception) -> Response:
        """Answer a request that raised a RequestFailed."""
        assert isinstance(failed, RequestFailed)
        return self.answer(failed)

    async def answer_http(self, request: Request, error: Exception) -> Response:
        """Answer what the framework refuses, an unknown path for example, in the same form."""
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        headers = dict(error.headers or {})
        return self.answer(RequestFailed(error.status_code, code, str(error.detail), headers=headers))

    async def answer_unexpected(self, request: Request, error: Exception) -> Response:
        """Answer where something failed that nobody foresaw; the framework logs it."""
        failure = failure_of(error, {})
        return self.answer(RequestFailed(failure.status, failure.code, failure.message))

    async def _accept(self, request: Request) -> VideoJob:
        """Receive a form, check what is in it, and let the job wait. Raises RequestFailed."""
        if self.queue.full:  # before the upload is received
            raise _too_many("as many videos wait as this server takes")
        if self._uploads >= self.config.max_uploads:
            raise _too_many("as many uploads are being received as this server takes at a time")
        self._uploads += 1
        try:
            return await asyncio.wait_for(self._receive(request), _UPLOAD_SECONDS)
        except asyncio.TimeoutError:
            raise RequestFailed(408, "timeout", "the upload took too long") from None
        except ClientDisconnect:
            raise _gone() from None
        finally:
            self._uploads -= 1

    async def _receive(self, request: Request) -> VideoJob:
        form_fields = len(options_of(VideoOptions)) + 1
        async with request.form(max_files=len(FILES) + 1, max_fields=form_fields, max_part_size=_TEXT_BYTES) as form:
            files: dict[str, UploadFile] = {}
            texts: dict[str, str] = {}
            for name, value in form.multi_items():
                if name in files or name in texts:
                    raise RequestFailed(400, "invalid_request", f"the field {name[:60]!r} is given twice", name[:60])
                if isinstance(value, UploadFile):
                    files[name] = value
                else:
                    texts[name] = value
            return await self._keep(files, texts)

    async def _keep(self, files: dict[str, UploadFile], texts: dict[str, str]) -> VideoJob:
        """Copy the files of a form into a new job's folder, check them, and let the job wait."""
        for name in FILES:
            if name in texts:
                told = f"{name} must be a file; addresses and names of files are not read"
                raise RequestFailed(400, "invalid_request", told, name)
            if name in REQUIRED and name not in files:
                raise RequestFailed(400, "invalid_request", f"the file {name} is missing", name)
        if unknown := sorted(set(files) - set(FILES)):
            raise RequestFailed(400, "invalid_request", f"there is no file {unknown[0][:60]!r}", unknown[0][:60])
        if texts.pop("model", self.model.name) != self.model.name:
            raise RequestFailed(400, "invalid_request", f"this server has the model {self.model.name}", "model")
        options = read_options(texts, self.config)
        check_together(options, files, self.model.signed)
        kept = False
        folder: Path | None = None
        try:
            identity, folder = self.queue.store.new_folder()
            inputs = {
                name: await self._in_thread(keep_file, file.file, folder, name, file.filename)
                for name, file in files.items()
            }
            seconds = await self._in_thread(check_files, folder, inputs, self.config.max_seconds)
            names = {name: client_name(file.filename, name) for name, file in files.items()}
            job = VideoJob(identity, time.time(), inputs, names, options, seconds)
            kept = self.queue.submit(job)
            if not kept:  # others came while this was received
                raise _too_many("as many videos wait as this server takes")
            return job
        except OSError:
            raise RequestFailed(507, "output", "the server has no room for the upload") from None
        finally:
            if not kept and folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._checks)

    def _find(self, identity: str) -> VideoJob:
        if (job := self.queue.store.get(identity)) is None:
            raise _unknown()
        return job

    def _file(self, job: VideoJob, afterwards: BackgroundTask | None = None) -> Response:
        path = self.queue.store.folder_of(job.id) / job.video
        headers = {"X-Video-Id": job.id, "Cache-Control": "no-store"}
        kind, name = _MEDIA_TYPES[path.suffix], f"{job.id}{path.suffix}"
        return FileResponse(path, media_type=kind, filename=name, headers=headers, background=afterwards)


def _gone() -> RequestFailed:
    return RequestFailed(499, "gone", "the client did not wait")  # nobody reads it


def _unknown() -> RequestFailed:
    return RequestFailed(404, "not_found", "there is no such video; it may have been removed for its age")


def _too_many(message: str) -> RequestFailed:
    return RequestFailed(429, "queue_full", f"{message}; try again later", headers=_RETRY)
