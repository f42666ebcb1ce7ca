"""The server, and the studio in the browser: `serve` and `studio`."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import ipaddress
import os
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer

from videopoet.cli.base import Device, Model, app, check_folder, say
from videopoet.errors import ConfigError, shown
from videopoet.serving.keys import KEYS_VARIABLE, Keys, read_keys

NEEDS = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
Host = Annotated[
    str,
    typer.Option(
        help=f"The address to listen on; others than loopback need a key, from `serve --api-keys` or {KEYS_VARIABLE}."
    ),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes one that is free.")]
Folder = Annotated[Path, typer.Option("--folder", "-f", help="Where the queue and all results are kept.")]


@app.command()
def serve(
    model: Model = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    folder: Folder = Path("outputs/server"),
    device: Device = None,
    database: Annotated[
        str | None,
        typer.Option(
            envvar="VIDEOPOET_DATABASE",
            show_envvar=True,
            help="postgresql://... for a queue that several machines share; without it, a file in the folder.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Processes that make media.")] = 1,
    batch: Annotated[int, typer.Option(min=1, max=32, help="At most so many alike jobs are made together.")] = 4,
    api_keys: Annotated[
        Path | None,
        typer.Option(help=f"A file with one key a line, readable by you alone; or set {KEYS_VARIABLE}."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name that the server may be called by; repeatable.")
    ] = None,
    most_queued: Annotated[int, typer.Option(min=1, max=100_000, help="Jobs that may wait.")] = 100,
    most_seconds: Annotated[float, typer.Option(min=0.1, max=60, help="Length of one clip.")] = 30.0,
    most_upload_mib: Annotated[int, typer.Option(min=1, max=4096, help="Size of one request.")] = 64,
    most_kept_gb: Annotated[float, typer.Option(min=0.1, help="Of results; the oldest go first.")] = 20.0,
    most_job_seconds: Annotated[float, typer.Option(min=1, help="A job that takes longer fails.")] = 1800.0,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond loopback without a key.")] = False,
    browser: Annotated[bool, typer.Option("--open", help="Open the studio in the browser.")] = False,
) -> None:
    """Serve the open videos API, and the studio at the same address."""
    keys = read_keys(api_keys)
    _check_host(host, bool(keys), insecure)
    check_folder(folder)
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the server needs packages that are not installed ({', '.join(missing)}); the extra `serve` has them; "
            'install it with `pip install "videopoet[serve]"`',
            code="package_missing",
        )
    listener = _listen(host, port)
    everywhere = ipaddress.ip_address(listener.getsockname()[0]).is_unspecified

    import uvicorn

    from videopoet.serving.intake import Ceilings
    from videopoet.serving.server import Service, create_app

    arguments = ["--most-jobs", str(batch), "--most-job-seconds", str(most_job_seconds)]
    arguments += ["--model", model] if model else []
    service = Service(
        folder,
        database=_database(database),
        ceilings=Ceilings(
            most_bytes=most_upload_mib * 2**20,
            most_seconds=most_seconds,
            most_queued=most_queued,
            most_kept_bytes=round(most_kept_gb * 1e9),
        ),
        keys=Keys(keys),
        hosts=[*(allow_host or ()), *(() if everywhere else [host])],
        num_workers=workers,
        worker_arguments=arguments,
        devices=[device] if device else None,
    )
    if everywhere:  # which is no address that anyone can call
        host = "::1" if listener.family == socket.AF_INET6 else "127.0.0.1"
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    say(f"serving at {address} (the studio is there too); results are kept in {folder}")
    if everywhere and not allow_host:
        say(
            "other machines are refused until the server knows what they call this one by; give it as --allow-host "
            f"NAME, such as --allow-host {socket.gethostname()}, or its address"
        )
    if browser:
        _open_soon(f"{address}/")
    config = uvicorn.Config(
        create_app(service),
        log_level="warning",
        access_log=False,
        http="h11",
        ws="none",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=1000,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
    )
    # uvicorn ends in order on this signal and then raises it again, which is to end nothing more.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with contextlib.closing(listener):
        uvicorn.Server(config).run([listener])


@app.command()
def studio(
    model: Model = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    folder: Folder = Path("outputs/server"),
    device: Device = None,
) -> None:
    """Open the studio in the browser: the server on this machine, for one person."""
    serve(model=model, host=host, port=port, folder=folder, device=device, browser=True)


def _database(address: str | None) -> str | None:
    """An address that names PostgreSQL."""
    if address is not None and not address.startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            f"database is '{address.partition('://')[0][:20]}...'; postgresql://user@host:port/database fits; leave it "
            "out for a queue in the folder",
            code="database_invalid",
        )
    return address


def _check_host(host: str, has_keys: bool, insecure: bool) -> None:
    if host in ("127.0.0.1", "localhost", "::1") or has_keys or insecure:
        return
    raise ConfigError(
        f"host '{host}' lets other machines in, and there is no key; loopback needs none; give `videopoet serve` "
        "--api-keys FILE, or --insecure to let everyone in",
        code="key_needed",
    )


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a port in use is an error before a model is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):  # the second is of a name that no host can have
        what = f"no host {shown(host)} is known here"
        raise _refused(errno.EADDRNOTAVAIL, what, "a name or an address of this machine fits; correct --host") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        explained = {
            errno.EADDRINUSE: (f"port {port} of {host} is in use", "one that is free fits; choose another --port"),
            errno.EACCES: (f"port {port} of {host} is not for every user", "choose a --port from 1024 on"),
            errno.EADDRNOTAVAIL: (f"{host} is no address of this machine", "one of its own fits; correct --host"),
        }
        said = os.strerror(error.errno or 0)
        usual = f"{said} for {host} port {port}", "the machine refused it; choose another --host or --port"
        raise _refused(error.errno, *explained.get(error.errno or 0, usual)) from None
    return listener


def _refused(number: int | None, what: str, remedy: str) -> OSError:
    error = OSError(number, what)
    error.add_note(remedy)
    return error


def _open_soon(address: str) -> None:
    """Open a browser once the server answers, without waiting for it."""
    import threading
    import time
    import urllib.request
    import webbrowser

    def wait() -> None:
        for _ in range(100):
            try:
                with urllib.request.urlopen(f"{address}health", timeout=2):
                    break
            except OSError:
                time.sleep(0.2)
        webbrowser.open(address)

    threading.Thread(target=wait, daemon=True).start()
