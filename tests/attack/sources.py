"""The images that the commands read, in every form, and a registry that has one of them. All small: what is tried is
how work ends, and a run has to be cheap."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import time

import root
import system

DOCKERFILE = "FROM scratch\nCOPY . /\n"
# Stands for a builder: it does what docker does for Chariot, and takes as long as a small build.
BUILDER = """#!/bin/sh
case $1 in
version | rmi) ;;
build) sleep 0.05 ;;
save) cp /data/docker.tar "$3" ;;
esac
"""


def tree(place, what):
    """A small file system: programs, files of several blocks, many small ones, links of both kinds."""
    for name in ["bin", "etc", "opt", "srv/data", "tmp", "proc", "sys", "dev", "usr/lib/deep/er/still", "home", "root", "run", "var"]:
        os.makedirs(f"{place}/{name}")
    shutil.copy(shutil.which("busybox"), f"{place}/bin/busybox")
    for name in ["sh", "true", "cat", "echo", "ls", "mkdir", "mv", "rm", "sleep", "ln"]:
        os.symlink("busybox", f"{place}/bin/{name}")
    for name in ["passwd", "group", "hosts", "resolv.conf", "machine-id", "localtime"]:
        open(f"{place}/etc/{name}", "w").close()
    source = random.Random(what)
    for name, size in (("srv/data/large", 2 << 20), ("srv/data/odd", 300_001)):
        with open(f"{place}/{name}", "wb") as file:
            file.write(source.randbytes(size // 2) + b"\0" * (size - size // 2))
    for number in range(60):
        with open(f"{place}/usr/lib/deep/file-{number}", "w") as file:
            file.write(f"{what} {number}\n" * (number + 1))
    with open(f"{place}/srv/what", "w") as file:
        file.write(what + "\n")
    os.link(f"{place}/srv/what", f"{place}/srv/again")
    os.chmod(f"{place}/srv/data/odd", 0o640)
    subprocess.run(["chown", "-hR", f"{root.ADA}:{root.ADA}", place], check=True)


def archive(place, target, names=(".",)):
    with tarfile.open(target, "w") as out:
        for name in names:
            out.add(os.path.join(place, name), name)


def layers(data):
    """Three layers: a tree, changes, removals."""
    changes = f"{data}/changes"
    os.makedirs(f"{changes}/srv/data")
    for name, text in {"srv/what": "changed\n", "srv/new": "new\n", "srv/data/.wh.odd": ""}.items():
        with open(f"{changes}/{name}", "w") as file:
            file.write(text)
    archive(f"{data}/tree", f"{data}/1.tar")
    archive(changes, f"{data}/2.tar", ["srv"])
    shutil.rmtree(changes)
    return [f"{data}/1.tar", f"{data}/2.tar"]


def saved(target, parts, complete=True):
    """An archive as `docker save` writes it; incomplete, its manifest names a configuration that is missing."""
    digests, names = [], []
    with tarfile.open(target, "w") as out:
        def add(name, content):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
        for part in parts:
            with open(part, "rb") as file:
                content = file.read()
            digest = hashlib.sha256(content).hexdigest()
            digests.append("sha256:" + digest)
            names.append(f"{digest}/layer.tar")
            add(f"{digest}/VERSION", b"1.0")
            add(names[-1], content)
        configuration = {
            "architecture": "amd64" if system.X86 else "arm64", "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/true"]}, "rootfs": {"type": "layers", "diff_ids": digests},
        }
        if complete:
            add("config.json", json.dumps(configuration).encode())
        add("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["team/small:1"], "Layers": names}]).encode())


def compress(source, target):
    with open(source, "rb") as file, gzip.GzipFile(target, "wb", compresslevel=1, mtime=0) as out:
        shutil.copyfileobj(file, out)


def make(place, repository, launcher):
    """Fills place/data, place/opt and place/registry."""
    data = f"{place}/data"
    for name in [data, f"{place}/opt", f"{place}/opt/chariot"]:
        os.mkdir(name)
    shutil.copy(launcher, f"{place}/opt/chariot/chariot")
    os.chmod(f"{place}/opt/chariot/chariot", 0o755)
    os.symlink("chariot", f"{place}/opt/chariot/ch-run")
    root.write(f"{place}/opt/chariot/docker", BUILDER, 0, 0o755)
    tree(f"{data}/tree", "new")
    tree(f"{data}/old", "old")
    for name in ("tree", "old"):
        subprocess.run(["mksquashfs", f"{data}/{name}", f"{data}/{name}.sqfs", "-quiet", "-no-progress", "-comp", "gzip", "-Xcompression-level", "1"], check=True, stdout=subprocess.DEVNULL)
    archive(f"{data}/tree", f"{data}/flat.tar")
    archive(f"{data}/old", f"{data}/old.tar")
    parts = layers(data)
    saved(f"{data}/docker.tar", parts)
    compress(f"{data}/docker.tar", f"{data}/docker.tar.gz")
    # A layer that takes long to read, behind which something is missing.
    with open(f"{data}/zeroes", "wb") as file:
        file.truncate(30 << 20)
    archive(data, f"{data}/3.tar", ["zeroes"])
    saved(f"{data}/broken.tar", [f"{data}/3.tar"], complete=False)
    compress(f"{data}/broken.tar", f"{data}/broken.tar.gz")
    with open(f"{data}/docker.tar.gz", "rb") as file, open(f"{data}/cut.tar.gz", "wb") as out:
        out.write(file.read()[:-100_000])
    os.mkdir(f"{data}/context")
    root.write(f"{data}/context/Dockerfile", DOCKERFILE)
    root.write(f"{data}/image.toml", 'image = "/data/docker.tar"\n')
    compress(parts[0], f"{data}/1.tar.gz")
    layout = f"{place}/layout"
    subprocess.run([f"{repository}/tests/tools/make-oci-layout", layout, "small", f"{data}/1.tar.gz", parts[1]], check=True)
    for name in ["zeroes", "1.tar", "2.tar", "3.tar", "1.tar.gz"]:
        os.remove(f"{data}/{name}")


def registry(place):
    """Debian's registry, with the small image in it; it ends with this process."""
    configuration = f"{place}/registry.yml"
    root.write(configuration, f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
               f"storage: {{filesystem: {{rootdirectory: {place}/registry}}}}\nhttp: {{addr: \"{root.REGISTRY}\"}}\n")
    log = open(f"{place}/registry.log", "w")
    server = subprocess.Popen(["docker-registry", "serve", configuration], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                              preexec_fn=system.die_with_parent)
    words = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{place}/layout:small"]
    for _ in range(100):
        if subprocess.run([*words, f"docker://{root.REGISTRY}/team/small:1"], stderr=log).returncode == 0:
            return server
        time.sleep(0.1)
    raise RuntimeError("the registry does not start: " + open(f"{place}/registry.log").read()[-2000:])
