"""From the body of a request to a job in the queue: fields read, media taken in, checked by `Request`, stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from videopoet.config import BaseConfig
from videopoet.errors import TaskError
from videopoet.generation.examination import examine
from videopoet.sequence.tasks import TASKS
from videopoet.serving import bodies, fields
from videopoet.serving.bodies import Body
from videopoet.serving.jobs import Job, Jobs, new_id
from videopoet.serving.storage import Storage

FIELD_OF_INPUT = ("image", "video", "audio")


class Ceilings(BaseConfig):
    """What clients can never raise."""

    most_bytes: int = 64 * 2**20
    """Of one body."""
    most_seconds: float = 30.0
    """Of what one job makes."""
    most_queued: int = 100
    """Jobs that wait."""
    most_kept_bytes: int = 20 * 10**9
    """Of all results and inputs; the oldest go first."""


class Intake:
    """Takes requests in.

    Args:
        jobs: The queue.
        storage: Where files go.
        ceilings: What a request may cost.
    """

    def __init__(self, jobs: Jobs, storage: Storage, ceilings: Ceilings):
        self.jobs, self.storage, self.ceilings = jobs, storage, ceilings

    def submit(
        self,
        owner: str,
        body: Body,
        *,
        default_task: str | None = None,
        required: str | None = None,
        remixed: Job | None = None,
    ) -> Job:
        """Put what a body asks for into the queue.

        Args:
            owner: Whose job it is.
            body: Its files are taken over.
            default_task: Where the body names none.
            required: A field that must be given as media.
            remixed: The job whose request this one changes.

        Raises:
            TaskError: The request does not fit, or names no result, or the queue is full.
            MediaError: A file is of no kind that is read.
            DataError: The disk is nearly full.
        """
        self.storage.check_room()
        values = dict(body.fields)
        references = {}
        for name in bodies.MEDIA_FIELDS:
            if name in values and name not in body.files and bodies.reference(values[name], name) is not None:
                references[name] = self._finished(bodies.reference(values.pop(name), name) or "", owner, name)
        if required is not None and not {required, "input_reference"} & {*body.files, *references}:
            raise fields.with_param(
                TaskError(
                    f'{required} is missing; a file, or {{"id": "video_..."}} of a finished result, fits; give it',
                    code="input_missing",
                ),
                required,
            )
        kinds = {name: bodies.kind_of(file) for name, file in body.files.items()}
        kinds |= {name: source.result["kind"] for name, source in references.items() if source.result}
        asked = fields.parse(values, kinds, default_task)
        model = self.jobs.model()
        self._check_model(model, asked)
        return self._store(model, owner, asked, body, references, kinds, remixed)

    def again(self, owner: str, source: Job, body: Body) -> Job:
        """The request of another job with what the body changes in it: a remix.

        Raises:
            TaskError: As in `submit`.
        """
        if source.task not in TASKS:
            raise TaskError(
                f"the job is a {source.task}, which is changed by its storyboard; POST /v1/movies takes one, and with "
                "takes_of makes only what changed; ask there",
                code="task_unsupported",
            )
        values: dict[str, Any] = {**source.request["fields"], "task": source.task}
        if {"size", "width", "height"} & body.fields.keys():
            values = {name: value for name, value in values.items() if name not in ("width", "height")}
        if {"seconds", "num_frames"} & body.fields.keys():
            values = {name: value for name, value in values.items() if name not in ("seconds", "num_frames")}
        body.fields = {**values, **body.fields}
        for name in source.request["inputs"]:
            if name not in body.files and not isinstance(body.fields.get(name), dict):
                body.files[name] = self.storage.new_upload()
                try:
                    body.files[name].write_bytes(self.storage.input(source.id, name).read_bytes())
                except FileNotFoundError:
                    raise _removed() from None
        return self.submit(owner, body, remixed=source)

    def make_room(self) -> None:
        """Remove the oldest results where there are more bytes than may be kept."""
        used = sum(self.storage.used_bytes(job_id) for job_id in self.jobs.known_ids())
        for job in self.jobs.oldest_ended(1000):
            if used <= self.ceilings.most_kept_bytes:
                return
            used -= self.storage.used_bytes(job.id)
            if self.jobs.remove(job.id, job.owner) is not None:
                self.storage.remove(job.id)

    def _finished(self, job_id: str, owner: str, name: str) -> Job:
        job = self.jobs.get(job_id, owner)
        if job is None:
            error = TaskError(
                f"{name} names a job that is not known here; the id of a finished one fits; /v1/videos lists them",
                code="job_unknown",
            )
        elif job.status != "completed":
            error = TaskError(
                f"{name} names a job that is {job.status.replace('_', ' ')}; a completed one fits; wait for its end",
                code="not_finished",
            )
        else:
            return job
        raise fields.with_param(error, name)

    def _check_model(self, model: dict[str, Any] | None, asked: fields.Asked) -> None:
        if model is None:
            if asked.model not in (None, "videopoet"):
                raise TaskError(
                    "no model has been loaded yet, so that none can be named; leave model out, or ask again soon",
                    code="not_ready",
                )
            return
        if asked.model not in (None, "videopoet", model["name"]):
            raise fields.with_param(
                TaskError(
                    f"the model '{asked.model[:60]}' is not one of this server; it has {model['name']}; name that one "
                    "or leave it out",
                    code="model_unknown",
                ),
                "model",
            )
        fields.check_against(model, asked, self.ceilings.most_seconds)

    def _store(
        self,
        model: dict[str, Any] | None,
        owner: str,
        asked: fields.Asked,
        body: Body,
        references: dict[str, Job],
        kinds: dict[str, str],
        remixed: Job | None,
    ) -> Job:
        targets = self._targets(asked, kinds)
        job_id = new_id()
        fields.request_of(asked.task, asked.fields, {target: Path(target) for target in targets.values()})
        try:
            for name, target in targets.items():
                if name in references:
                    source = references[name]
                    assert source.result is not None
                    file = source.result["files"][self._part(source, target)]
                    path = self.storage.result(source.id, source.result["attempt"], file)
                    self.storage.take_in(job_id, target, path, keep=True)
                else:
                    self.storage.take_in(job_id, target, body.files.pop(name), keep=False)
            media = {target: self.storage.input(job_id, target) for target in targets.values()}
            self._examine(model, asked, media)
            request = {"fields": asked.fields, "inputs": sorted(targets.values()), "fps": asked.fps}
            parent = remixed or next(iter(references.values()), None)
            return self.jobs.add(
                job_id,
                owner,
                asked.task,
                {**request, "remix": remixed is not None},
                shape=fields.shape_of(asked),
                parent=parent.id if parent else None,
                most_queued=self.ceilings.most_queued,
            )
        except BaseException as error:
            self.storage.remove(job_id)
            if isinstance(error, FileNotFoundError):
                raise _removed() from None
            raise

    @staticmethod
    def _examine(model: dict[str, Any] | None, asked: fields.Asked, media: dict[str, Path]) -> None:
        """Read what is given as the worker will: what cannot be made is refused here, while its sender waits."""
        if model is not None:  # else the worker is the first to know, and the job fails with the same words
            request = fields.request_of(asked.task, asked.fields, media)
            examine(request, fields.window_of(model, asked), model["tasks"])

    @staticmethod
    def _part(source: Job, target: str) -> str:
        """Which file of a result an input takes: a sound is that of the clip, a picture its thumbnail."""
        assert source.result is not None
        files, kind = source.result["files"], source.result["kind"]
        wanted = {"audio": "audio", "image": "image" if kind == "image" else "thumbnail"}.get(target, kind)
        if wanted not in files:
            raise fields.with_param(
                TaskError(
                    f"the result that {target} names has none; it is {kind}; choose another", code="input_unexpected"
                ),
                target,
            )
        return wanted

    @staticmethod
    def _targets(asked: fields.Asked, kinds: dict[str, str]) -> dict[str, str]:
        """The field of `Request` that each given medium is for."""
        targets = {name: name for name in kinds}
        if "input_reference" in targets:
            takes = [name for name in TASKS[asked.task].takes if name in FIELD_OF_INPUT]
            kind = kinds["input_reference"]
            targets["input_reference"] = kind if kind in takes or not takes else takes[0]
        for target in targets.values():
            if list(targets.values()).count(target) > 1:
                raise fields.with_param(
                    TaskError(
                        f"{target} is given twice, once as input_reference; one is taken; leave the other out",
                        code="input_unexpected",
                    ),
                    target,
                )
        return targets


def _removed() -> TaskError:
    return TaskError(
        "a job that is named has just been removed; one that is still there fits; choose another", code="job_unknown"
    )
